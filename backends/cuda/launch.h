/* How kernels are launched: at once, or gathered in a list that becomes one graph. On the host a
 * graph whose arguments are replaced takes a quarter of the time of four launches (README.md). */
#ifndef MOE_CUDA_LAUNCH_H
#define MOE_CUDA_LAUNCH_H

#include <cuda_runtime.h>
#include <mutex>
#include <stddef.h>
#include <vector>

struct LaunchList;

/* Where a pass's kernels go. */
struct Stream {
    cudaStream_t handle;
    LaunchList *list; /* NULL: each is launched at once */
    Stream(cudaStream_t handle_ = nullptr, LaunchList *list_ = nullptr)
        : handle(handle_), list(list_) {
    }
    operator cudaStream_t() const {
        return handle;
    }
};

/* A function of the driver, as of that version; NULL: it has none. Sought at run time: the plug-in
 * links no libcuda and loads without one. */
void *driver_function(const char *name, unsigned version);

struct LaunchShape {
    dim3 grid, block;
    size_t shared = 0;     /* bytes of dynamic shared memory */
    bool together = false; /* all blocks run at once: they wait for each other */
};

cudaError_t launch_kernel(const Stream &stream, const LaunchShape &shape, const void *kernel,
                          void **args, const size_t *bytes, int count);

template <class T> struct Same { typedef T type; };

/* launch(stream, shape, kernel, arguments...) */
template <class... P>
cudaError_t launch(const Stream &stream, const LaunchShape &shape, void (*kernel)(P...),
                   const typename Same<P>::type &...args) {
    void *at[] = {const_cast<void *>(static_cast<const void *>(&args))...};
    const size_t bytes[] = {sizeof(P)...};
    return launch_kernel(stream, shape, reinterpret_cast<const void *>(kernel), at, bytes,
                         (int)sizeof...(P));
}

/* The graphs of an operator: one for each stream and sequence of kernels, so that calls on several
 * streams do not wait for each other. */
class Graphs {
  public:
    Graphs() = default;
    Graphs(const Graphs &) = delete;
    ~Graphs();
    /* Launches what the list holds, and empties it. */
    cudaError_t run(LaunchList *list, cudaStream_t stream);

  private:
    struct Graph {
        cudaStream_t stream;
        std::vector<const void *> kernels;
        std::vector<bool> together;
        std::vector<cudaGraphNode_t> nodes;
        cudaGraph_t graph;
        cudaGraphExec_t exec;
    };
    std::mutex lock;
    std::vector<Graph> kept;

    Graph *find(const LaunchList &list, cudaStream_t stream);
    cudaError_t make(const LaunchList &list, Graph *graph);
    cudaError_t replay(const LaunchList &list, cudaStream_t stream);
};

/* Launches in order, with copies of their arguments. */
struct LaunchList {
    enum { MOST = 24, MOST_ARGS = 160, BYTES = 24 * 1024 };
    struct Item {
        const void *kernel;
        LaunchShape shape;
        int first_arg;
    };
    Graphs *graphs;
    int count = 0, args = 0;
    size_t used = 0;
    Item item[MOST];
    void *arg[MOST_ARGS];
    alignas(64) char byte[BYTES];

    explicit LaunchList(Graphs *graphs_) : graphs(graphs_) {
    }
    bool fits(const size_t *bytes, int count) const;
    void add(const LaunchShape &shape, const void *kernel, void **args, const size_t *bytes,
             int count);
    void clear();
};

#endif
