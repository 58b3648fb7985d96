'use strict';
// Copy buttons; a browser that lets no page touch the clipboard gets the line selected.
for (const button of document.querySelectorAll('.copy button')) {
  button.addEventListener('click', async () => {
    const code = button.parentElement.querySelector('code');
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
}

// A case that is linked to is unfolded.
function unfold() {
  const target = document.getElementById(location.hash.slice(1));
  for (let at = target; at; at = at.parentElement) {
    if (at.tagName === 'DETAILS') at.open = true;
  }
  if (target) target.scrollIntoView();
}
addEventListener('hashchange', unfold);
unfold();

// What the cell of an error map under the pointer holds.
for (const map of document.querySelectorAll('svg.cells')) {
  const of = map.dataset, number = Number;
  const table = (text) => text.split(';').map((line) => line.split(','));
  const over = table(of.over), nmse = table(of.nmse), rows = of.row.split(',');
  const reading = map.closest('figure').querySelector('.reading');
  map.addEventListener('pointermove', (event) => {
    const box = map.getBoundingClientRect();
    const i = Math.floor((event.clientY - box.top - of.top) / of.line);
    const j = Math.floor((event.clientX - box.left - of.left) / of.cell);
    const cell = over[i] && over[i][j];
    if (cell === undefined) {
      reading.textContent = '';
      return;
    }
    const first = j * of.tile, last = Math.min(first + number(of.tile), number(of.extent)) - 1;
    const place = first === last ? `${of.across} ${first}` : `${of.across}s ${first}..${last}`;
    const value = cell === '' ? 'no element'
      : cell === 'inf' ? 'not finite, finite where the truth is not, or no exact 0'
      : `NMSE ${nmse[i][j]}, ${cell} times what the gate allows`;
    reading.textContent = `${of.down} ${rows[i]}, ${place}: ${value}`;
  });
  map.addEventListener('pointerleave', () => { reading.textContent = ''; });
}
