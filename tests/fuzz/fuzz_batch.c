/* Any line of a batch: refused, or predicted and printed as valid JSON of one line. */
#include "cli/input/question.h"
#include "cli/report/prediction.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void predict(const moe_gpu *gpu, const cli_question *s) {
    const moe_workload state = {0};
    moe_prediction *p = NULL;
    char *text = NULL;
    size_t length = 0;
    if (cli_question_predict(s, gpu, "moeref", &state, NULL, &p))
        return;
    FILE *to = open_memstream(&text, &length);
    if (!to)
        abort();
    cli_prediction_json(to, &(cli_predicted){s, gpu, "moeref"}, p);
    fclose(to);
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
    if (!root || strchr(text, '\n') != text + length - 1 ||
        strcmp(json_string_value(json_object_get(root, "case")), s->line) != 0)
        abort();
    json_decref(root);
    free(text);
    moe_prediction_destroy(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static moe_gpu *gpu;
    cli_question s;
    if (!gpu && moe_gpu_load("h100-sxm", NULL, &gpu))
        abort();
    char *line = malloc(size + 1);
    if (!line)
        return 0;
    memcpy(line, data, size);
    line[size] = '\0';
    if (cli_question_parse(line, NULL, &s) == MOE_OK) {
        predict(gpu, &s);
        cli_question_destroy(&s);
    }
    free(line);
    return 0;
}
