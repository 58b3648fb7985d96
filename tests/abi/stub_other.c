/* A shared object that is no plug-in. */
extern int moe_stub_other(void);
int moe_stub_other(void) {
    return 1;
}
