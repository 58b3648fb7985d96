#include "nccl_calls.h"

#include <dlfcn.h>
#include <string.h>

moe_status nccl_load(const moe_log *log, nccl_calls *ret) {
    const struct {
        const char *name;
        size_t at;
    } all[] = {
        {"ncclCommInitAll", offsetof(nccl_calls, comm_init_all)},
        {"ncclCommDestroy", offsetof(nccl_calls, comm_destroy)},
        {"ncclCommAbort", offsetof(nccl_calls, comm_abort)},
        {"ncclCommGetAsyncError", offsetof(nccl_calls, comm_async_error)},
        {"ncclGroupStart", offsetof(nccl_calls, group_start)},
        {"ncclGroupEnd", offsetof(nccl_calls, group_end)},
        {"ncclSend", offsetof(nccl_calls, send)},
        {"ncclRecv", offsetof(nccl_calls, receive)},
        {"ncclGetErrorString", offsetof(nccl_calls, error_string)},
    };
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL); /* stays loaded */
    if (!library)
        return moe_fail(log, MOE_E_UNSUPPORTED, "nccl: %s", dlerror());
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        void *function = dlsym(library, all[i].name);
        if (!function)
            return moe_fail(log, MOE_E_UNSUPPORTED, "nccl: libnccl.so.2 has no %s", all[i].name);
        memcpy((char *)ret + all[i].at, &function, sizeof function);
    }
    return MOE_OK;
}
