"""Bugs of kernels as people write them, each an edit of backends/faulty: (name, layer, the element
types in which it is a bug, what a report must say, edits). The words are a regular expression for
"first wrong tensor: explanation", decided when the bug was written, before it was tried."""
import bugs_activation
import bugs_kernels
import bugs_more
import bugs_places
import bugs_products
import bugs_router
import bugs_state

BUGS = (bugs_products.BUGS + bugs_activation.BUGS + bugs_places.BUGS + bugs_router.BUGS +
        bugs_state.BUGS + bugs_more.BUGS + bugs_kernels.BUGS)
