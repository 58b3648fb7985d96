/* Clock, power and temperature of the board by NVML, the driver's own library: loaded when first
 * asked for and never linked against, so that the backend runs where it is missing. Whatever fails
 * is unknown (0), never an error. */
#include "layer.h"

#include <dlfcn.h>

namespace {

/* Not every toolkit ships nvml.h. These few calls and numbers are of NVML's stable binary
 * interface; every call returns 0 for success. */
typedef void *Handle;
constexpr int CLOCK_SM = 1, CLOCK_MEMORY = 2, SENSOR_GPU = 0;
constexpr unsigned FIELD_POWER_INSTANT = 186; /* milliwatts */
constexpr int TYPE_UNSIGNED = 1;

struct FieldValue {
    unsigned field, scope;
    long long timestamp, latency;
    int type, result;
    union {
        unsigned number;
        unsigned long long bits;
    } value;
};
static_assert(sizeof(FieldValue) == 40, "nvmlFieldValue_t");

/* nvmlClocksEventReasons */
constexpr unsigned long long POWER_CAP = 0x4, POWER_BRAKE = 0x80;
constexpr unsigned long long SW_THERMAL = 0x20, HW_THERMAL = 0x40;
constexpr unsigned long long SET_CLOCK = 0x2, HW_SLOWDOWN = 0x8, SYNC_BOOST = 0x10, DISPLAY = 0x100;

struct Nvml {
    int (*init)();
    int (*by_bus)(const char *, Handle *);
    int (*clock)(Handle, int, unsigned *);
    int (*power)(Handle, unsigned *);
    int (*power_limit)(Handle, unsigned *);
    int (*temperature)(Handle, int, unsigned *);
    int (*fields)(Handle, int, FieldValue *);
    int (*reasons)(Handle, unsigned long long *);
    bool ready;
};

template <class F> void find(void *library, const char *name, F *ret) {
    *ret = reinterpret_cast<F>(dlsym(library, name));
}

/* Stays loaded, like the driver. */
Nvml load() {
    Nvml n = {};
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return n;
    find(library, "nvmlInit_v2", &n.init);
    find(library, "nvmlDeviceGetHandleByPciBusId_v2", &n.by_bus);
    find(library, "nvmlDeviceGetClockInfo", &n.clock);
    find(library, "nvmlDeviceGetPowerUsage", &n.power);
    find(library, "nvmlDeviceGetEnforcedPowerLimit", &n.power_limit);
    find(library, "nvmlDeviceGetTemperature", &n.temperature);
    find(library, "nvmlDeviceGetFieldValues", &n.fields);
    find(library, "nvmlDeviceGetCurrentClocksThrottleReasons", &n.reasons);
    n.ready = n.init && n.by_bus && n.init() == 0;
    return n;
}

const Nvml &nvml() {
    static const Nvml loaded = load();
    return loaded;
}

/* NVML numbers all GPUs of the machine, CUDA those that CUDA_VISIBLE_DEVICES leaves, in an order of
 * its own: the bus is what both know. */
Handle find_board(const Nvml &n, int index) {
    char bus[32];
    Handle board = nullptr;
    if (!n.ready || cudaDeviceGetPCIBusId(bus, sizeof bus, index) != cudaSuccess ||
        n.by_bus(bus, &board) != 0)
        return nullptr;
    return board;
}

template <class Call, class... What> double ask(Call call, Handle board, What... what) {
    unsigned value = 0;
    return call && call(board, what..., &value) == 0 ? (double)value : 0;
}

/* The plain call averages over a second on newer GPUs, longer than many a timing. */
double power_of(const Nvml &n, Handle board) {
    FieldValue now = {};
    now.field = FIELD_POWER_INSTANT;
    if (n.fields && n.fields(board, 1, &now) == 0 && now.result == 0 && now.type == TYPE_UNSIGNED)
        return 1e-3 * now.value.number;
    return 1e-3 * ask(n.power, board);
}

int throttled_by(const Nvml &n, Handle board) {
    unsigned long long why = 0;
    if (!n.reasons || n.reasons(board, &why) != 0)
        return 0;
    return (why & (POWER_CAP | POWER_BRAKE) ? MOE_THROTTLE_POWER : 0) |
           (why & (SW_THERMAL | HW_THERMAL) ? MOE_THROTTLE_HEAT : 0) |
           (why & (SET_CLOCK | HW_SLOWDOWN | SYNC_BOOST | DISPLAY) ? MOE_THROTTLE_OTHER : 0);
}

} // namespace

moe_status device_board(void *device, moe_board *ret) {
    Device *dev = static_cast<Device *>(device);
    const Nvml &n = nvml();
    if (!dev->board_sought)
        dev->board = find_board(n, dev->index);
    dev->board_sought = true;
    if (!dev->board)
        return MOE_E_UNSUPPORTED;
    ret->sm_mhz = ask(n.clock, dev->board, CLOCK_SM);
    ret->memory_mhz = ask(n.clock, dev->board, CLOCK_MEMORY);
    ret->power_w = power_of(n, dev->board);
    ret->power_limit_w = 1e-3 * ask(n.power_limit, dev->board);
    ret->temperature_c = ask(n.temperature, dev->board, SENSOR_GPU);
    ret->throttled_by = throttled_by(n, dev->board);
    return ret->sm_mhz > 0 || ret->power_w > 0 ? MOE_OK : MOE_E_UNSUPPORTED;
}
