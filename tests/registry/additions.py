"""What adds one of each kind to a copy of the source tree: the edits that somebody would make."""
import os
import re
import shutil
import subprocess
import sys

NAME = "copied"
SMALL = "T=24 d=16 n=8 E=8 K=2 seed=3"


class Tree:
    """A copy of the source tree, and what was touched in it since `touched` was emptied."""

    def __init__(self, source, root):
        self.root = root
        self.touched = set()
        for path in self.listed(source):
            if os.path.isfile(os.path.join(source, path)):
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                shutil.copy(os.path.join(source, path), os.path.join(root, path))

    @staticmethod
    def listed(source):
        if os.path.exists(os.path.join(source, ".git")):
            return subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=source,
                                  check=True, text=True, capture_output=True).stdout.splitlines()
        found = []  # an unpacked archive: all but build folders
        for folder, folders, files in os.walk(source):
            folders[:] = [f for f in folders if not re.match(r"build|__pycache__", f)]
            found += [os.path.relpath(os.path.join(folder, f), source) for f in files]
        return found

    def read(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            return file.read()

    def write(self, path, text):
        os.makedirs(os.path.dirname(os.path.join(self.root, path)), exist_ok=True)
        with open(os.path.join(self.root, path), "w", encoding="utf-8") as file:
            file.write(text)
        self.touched.add(path)

    def edit(self, path, old, new):
        """Replaces `old`, which stands there once: else this test must follow the file."""
        text = self.read(path)
        if text.count(old) != 1:
            sys.exit(f"{path} has {text.count(old)} places {old!r}; tests/registry expects one")
        self.write(path, text.replace(old, new))

    def copy(self, path, new_path, *replaced):
        text = self.read(path)
        for old, new in replaced:
            if old not in text:
                sys.exit(f"{path} has no {old!r}; tests/registry expects it")
            text = text.replace(old, new)
        self.write(new_path, text)


# What is edited for a value of an enum: file, text that stands there once, what it becomes, where
# "..." is that text. An assertion that names the last value is among them: the compiler asks.
LAYER, KEYS, TRAITS = ("src/include/moeref/layer.h", "src/layer/case_keys.c",
                       "src/layer/traits.h")
SCORE, SELECT, OPENBLAS = ("src/route/score.c", "src/route/select.c",
                           "backends/openblas/activation.c")
VALUES = {
    "score": [
        (LAYER, "    MOE_SCORE_COUNT\n", "    MOE_SCORE_COPIED,\n..."),
        (KEYS, 'N("sparsemixer", ', 'N("copied", MOE_SCORE_COPIED) ...'),
        (SCORE, "    [MOE_SCORE_SPARSEMIXER] =",
         "    [MOE_SCORE_COPIED] = {sigmoid_all, sigmoid_weigh, sigmoid_backward},\n..."),
        (SCORE, "MOE_SCORE_SIGMOID_CAP + 1 ==", "MOE_SCORE_COPIED + 1 =="),
    ],
    "selection": [
        (LAYER, "    MOE_SELECT_COUNT\n", "    MOE_SELECT_COPIED,\n..."),
        (TRAITS, 'ROW("token_rounding", ',
         'ROW("copied", MOE_SELECT_COPIED, MOE_INT_PAIRS_PER_TOKEN, false) \\\n    ...'),
        (SELECT, "    [MOE_SELECT_CAPACITY] =",
         "    [MOE_SELECT_COPIED] = {choose_topk, false, true},\n..."),
        (SELECT, "MOE_SELECT_GROUP_ZERO + 1 ==", "MOE_SELECT_COPIED + 1 =="),
        ("sim/kernels/counts.c", "    case MOE_SELECT_TOPK:\n",
         "    case MOE_SELECT_COPIED:\n..."),
    ],
    "activation": [  # the identity
        (LAYER, "    MOE_ACT_COUNT\n", "    MOE_ACT_COPIED,\n..."),
        (TRAITS, 'ROW("silu", ', 'ROW("copied", MOE_ACT_COPIED, false, false, false) ...'),
        ("src/reference/activation.c", "    case MOE_ACT_RELU2:\n",
         "    case MOE_ACT_COPIED:\n        *slope = 1;\n        return x;\n..."),
        (OPENBLAS, "    case MOE_ACT_RELU2:\n        return relu_squared(",
         "    case MOE_ACT_COPIED:\n        return (value){x, 1};\n..."),
        (OPENBLAS, "    case MOE_ACT_RELU2:\n        forward_loop(",
         "    case MOE_ACT_COPIED:\n"
         "        forward_loop(MOE_ACT_COPIED, false, 1, 0, act, h, a);\n        return;\n..."),
        (OPENBLAS, "    case MOE_ACT_RELU2:\n        return backward_loop(",
         "    case MOE_ACT_COPIED:\n        return backward_loop(MOE_ACT_COPIED, false, 1, 0, "
         "act, h, d_act, w, scaled, dh);\n..."),
    ],
    "rounding": [
        (LAYER, "    MOE_ROUND_COUNT\n", "    MOE_ROUND_COPIED,\n..."),
        (KEYS, 'N("balance", ', 'N("copied", MOE_ROUND_COPIED) ...'),
        ("src/route/rounding.c", "    case MOE_ROUND_UP:\n", "    case MOE_ROUND_COPIED:\n..."),
    ],
}


def add_value(kind):
    def add(tree):
        for path, place, text in VALUES[kind]:
            tree.edit(path, place, text.replace("...", place))
    return add


def add_family(tree):
    path = "src/hf/families.c"
    row = re.search(r'    \{\s*\.model_type = "mixtral",.*?\},\n', tree.read(path), re.S)
    tree.edit(path, row[0], row[0] + row[0].replace('"mixtral"', '"copied"'))


def add_gpu(tree):
    tree.copy("sim/gpus/h100-sxm.json", "sim/gpus/copied.json",
              ('"name": "h100-sxm"', '"name": "copied"'))


def add_method(tree):
    tree.copy("sim/methods/cublas.c", "sim/methods/copied.c",
              ("moe_int_method_cublas", "moe_int_method_copied"))
    tree.edit("sim/gpus/systems.h", "    SYSTEM(MOEREF, moeref)",
              "    SYSTEM(COPIED, copied) \\\n    SYSTEM(MOEREF, moeref)")


def add_backend(tree):
    tree.copy("backends/example/example.c", "backends/copied/copied.c", ("example", "copied"))
    tree.copy("backends/example/meson.build", "backends/copied/meson.build",
              ("moe_example", "moeref-copied"), ("example", "copied"))
    tree.edit("backends/meson.build", "subdir('example')\n",
              "subdir('example')\nsubdir('copied')\n")


def add_verb(tree):
    tree.write("src/cli/verbs/copied.c", """#include "cli/verbs/verbs.h"

#include <stdio.h>

int cli_copied(int argc, char **argv) {
    return printf("%d %s\\n", argc, argv[0]) < 0;
}
""")
    tree.edit("src/cli/verbs/verbs.h", "    VERB(list, ",
              '    VERB(copied, "repeats its name") \\\n    VERB(list, ')


def add_stage(tree):
    tree.edit("src/include/moeref/stage.h", "    MOE_STAGE_COUNT\n",
              "    MOE_STAGE_COPIED,\n    MOE_STAGE_COUNT\n")
    tree.edit("src/layer/stages.c", "    PART(SORT, ",
              '    PART(COPIED, "copied", BWD, NONE, DX),\n    PART(SORT, ')


def add_key(tree):
    tree.edit("src/include/moeref/case.h", "} moe_case;\n", "    int32_t copied;\n} moe_case;\n")
    tree.edit(KEYS, '    KEY("pass", ', '    KEY("copied", "      ", FLAG, copied, NO, "0", '
              '"1: nothing") \\\n    KEY("pass", ')


def add_edge_case(tree):
    tree.edit("src/suite/suite.c", "    C(one_token,  ", f'    C(copied, 0, "{SMALL}") \\\n'
              "    C(one_token,  ")


def add_block(tree):
    tree.edit("src/layer/blocks.h", "    R(rewired, ", '    R(copied, "as the next") \\\n'
              "    R(rewired, ")
    path = "src/block/routers/logits.c"
    body = re.search(r"int moe_int_write_rewired\(.*?\n}\n", tree.read(path), re.S)[0]
    tree.edit(path, body, body.replace("rewired", NAME) + "\n" + body)


def add_recipe(tree):
    tree.edit("src/reference/recipe.c", '    {"unfused", ',
              '    {"copied", "as the first", STORED | MOE_POINT_SA, 0},\n    {"unfused", ')


def add_hypothesis(tree):
    """Says the same as the one that follows, which is then not reported."""
    row = "    CHANGE(renorm_missing, "
    tree.edit("src/check/explain/bank.h", row, f'    CHANGE(copied, "copied") \\\n{row}')
    path = "src/check/explain/changes_weights.c"
    body = re.search(r"bool moe_int_change_renorm_missing\(.*?\n}\n", tree.read(path), re.S)[0]
    tree.edit(path, body, body.replace("renorm_missing", "copied") + "\n" + body)


def add_fault(tree):
    row = '    F(renorm_missing, "renorm", '
    tree.edit("src/selftest/faults.h", row, '    F(copied, "renorm", PLAIN, ANY_, "copied", "", '
              f'"as the next") \\\n{row}')
    tree.edit("backends/faulty/router.c", "!FAULT(l, renorm_missing)",
              "!FAULT(l, renorm_missing) && !FAULT(l, copied)")
