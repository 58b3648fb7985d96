/* Build tool: turns files (GPU descriptions, the style of a page) into C strings, so that no data
 * directory is needed at run time. Usage: embed OUT.c HEADER.h STEM FILE ...; the header declares
 * the type STEM_file and the arrays STEM_files and STEM_names. */
#include <stdio.h>
#include <string.h>

static void put_escaped(FILE *out, int c) {
    if (c == '\n')
        fputs("\\n\"\n    \"", out);
    else if (c == '"' || c == '\\')
        fprintf(out, "\\%c", c);
    else if (c < 0x20 || c > 0x7e)
        fprintf(out, "\\%03o", c);
    else
        fputc(c, out);
}

static const char *base_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Of the file's base: what comes before the first dot. */
static int name_length(const char *path) {
    return (int)strcspn(base_of(path), ".");
}

static int embed(FILE *out, const char *path) {
    FILE *in = fopen(path, "rb");
    if (!in) {
        perror(path);
        return 1;
    }
    fprintf(out, "    {\"%.*s\",\n    \"", name_length(path), base_of(path));
    long size = 0;
    for (int c; (c = fgetc(in)) != EOF; size++)
        put_escaped(out, c);
    fprintf(out, "\",\n    %ld},\n", size);
    return fclose(in);
}

int main(int argc, char **argv) {
    FILE *out = argc > 3 ? fopen(argv[1], "wb") : NULL;
    if (!out) {
        fprintf(stderr, "usage: embed OUT.c HEADER.h STEM FILE ...\n");
        return 2;
    }
    fprintf(out, "#include \"%s\"\nconst %s_file %s_files[] = {\n", argv[2], argv[3], argv[3]);
    for (int i = 4; i < argc; i++) {
        if (embed(out, argv[i]))
            return 1;
    }
    fprintf(out, "    {0}};\nconst char *const %s_names[] = {", argv[3]);
    for (int i = 4; i < argc; i++)
        fprintf(out, "\"%.*s\", ", name_length(argv[i]), base_of(argv[i]));
    fputs("0};\n", out);
    return fclose(out) ? 1 : 0;
}
