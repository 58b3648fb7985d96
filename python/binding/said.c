/* What the library says, and text on its way to Python. */
#include "cli/input/messages.h"
#include "moeref/version.h"
#include "python/binding/binding.h"

#include <stdlib.h>
#include <string.h>

static void hear(void *user, moe_log_level level, const char *message) {
    moe_py_said *said = user;
    size_t used = strlen(said->text);
    if (level > MOE_LOG_WARN)
        return;
    snprintf(said->text + used, sizeof said->text - used, "%s: %s\n",
             level == MOE_LOG_ERROR ? "error" : "warning", message);
}

void moe_py_listen(moe_py_ear *ear, moe_py_said *said) {
    said->text[0] = '\0';
    *ear = (moe_py_ear){said, {hear, said}};
    cli_log_to(&ear->log);
}

void moe_py_listen_end(void) {
    cli_log_to(NULL);
}

void moe_py_layout(int64_t ret[4]) {
    ret[0] = sizeof(moe_named_tensor);
    ret[1] = sizeof(moe_py_how);
    ret[2] = sizeof(moe_py_form);
    ret[3] = sizeof(moe_py_step);
}

void moe_py_free(char *text) {
    free(text);
}

const char *moe_py_version(void) {
    return moe_version();
}

bool moe_py_text_begin(moe_py_text *t) {
    *t = (moe_py_text){0};
    t->to = open_memstream(&t->text, &t->size);
    return t->to != NULL;
}

char *moe_py_text_end(moe_py_text *t) {
    bool complete = !ferror(t->to);
    complete = fclose(t->to) == 0 && complete;
    if (!complete) {
        free(t->text);
        t->text = NULL;
    }
    return t->text;
}
