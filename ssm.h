/* ssm.h - state space models for C and C++, in one file                  version 0.1.0
 * SPDX-License-Identifier: MIT
 *
 * Selective SSM, S4D, S4, S5, S6 and the Mamba block, each with whole-sequence forward, one-step
 * streaming and gradients. C99 and C++11, nothing but the C standard headers, no allocation.
 *
 *   In ONE source file:                      Everywhere else:
 *       #define SSM_IMPLEMENTATION               #include "ssm.h"
 *       #include "ssm.h"
 *
 * QUICK START (compiled and run by `make test`)
 *
 *   #define SSM_IMPLEMENTATION
 *   #include "ssm.h"
 *   #include <stdlib.h>
 *
 *   int main(void)
 *   {
 *       ssm_mamba_config config = {0};      // zero everywhere else: the paper's defaults
 *       ssm_seqs seqs = {0};
 *       ssm_sizes need;
 *       ssm_mamba mamba;
 *       float x[100 * 64] = {0}, y[100 * 64];
 *       void *params, *bound, *state, *work;
 *
 *       config.d_model = 64;
 *       seqs.batch = 1;
 *       seqs.len = 100;
 *       if (ssm_mamba_sizes(&config, &seqs, &need) != SSM_OK) return 1;
 *       params = malloc(need.params);       // or the weights of a checkpoint
 *       bound = malloc(need.bound);         // the same weights, laid out for the kernels
 *       state = calloc(1, need.state);      // all zero: the start of a sequence
 *       work = malloc(need.work);
 *       ssm_mamba_init(&config, (float *)params, 42);
 *       ssm_mamba_bind(&mamba, &config, (float *)params, bound, need.bound);
 *       ssm_mamba_forward(&mamba, (float *)state, x, y, &seqs, work, need.work);
 *       return ssm_mamba_step(&mamba, (float *)state, x, y, 1, work, need.work) != SSM_OK;
 *   }
 *
 * CONTENTS (search for a tag, with its arrows)
 *   >>top            this page
 *   >>manual         glossary, layouts, the verbs, configurations of other libraries
 *   >>config         every macro a user may define
 *   >>contracts      memory, threads, aliasing, errors, numerics, versions
 *   >>types          status, real, strides, sequences, sizes, parameter tables
 *   >>api-ops        linear, selective and S5 scans, HiPPO, convolution, linear, RMSNorm, FFT
 *   >>api-layers     selective, S6, Mamba, S4D, S4, S5
 *   >>api-train      AdamW, random numbers
 *   >>portability    the implementation starts here: compilers, checked sizes, arena
 *   >>math           exp, exp2, expm1, log, softplus, sigmoid, sincos, sqrt, erf, GELU, complex
 *   >>hippo          HiPPO-LegS in diagonal form, and as a memory
 *   >>random         the generator behind every init
 *   >>params         parameter tables and the initialiser that walks them
 *   >>discretise     one coefficient pair for each discretisation, with its derivatives
 *   >>views          strided tensors and packed sequences
 *   >>op-linear      matrix products on packed weights
 *   >>op-norm        RMSNorm
 *   >>op-conv        causal depthwise convolution
 *   >>op-linear-scan h = a h + b: sequential, chunked, Blelloch's tree
 *   >>op-scan        the selective scan: sequential, chunked and tree forward; backward
 *   >>op-s5          the S5 scan, forward and backward
 *   >>op-fft         fast Fourier transform, convolution of any length
 *   >>tiles          how a layer walks a batch of sequences in time tiles
 *   >>bound          the block that bind fills and attach reads
 *   >>core           projection + selective scan: what selective, S6 and Mamba share
 *   >>layer-selective
 *   >>layer-s6
 *   >>layer-mamba
 *   >>s4-core        what S4D and S4 share: recurrence, convolution form, output map
 *   >>layer-s4d
 *   >>layer-s4
 *   >>layer-s5
 *   >>optimiser      AdamW
 *   >>end            macros undefined, changes, licence
 */

/*=============================================================================
 * >>manual
 *=============================================================================
 *
 * THE EQUATION. Every layer is one recurrence, per channel d and state n (S4 adds a matrix of rank one
 * to the diagonal, S5 shares one state among all channels):
 *
 *     h[t] = Abar[t] h[t-1] + Bbar[t] u[t]          y[t] = sum_n C[t] h[t] + D u[t]
 *
 * Layers differ in where the coefficients come from; discretisations (ssm_disc) differ in how
 * Abar and Bbar follow from A, B and the step size delta.
 *
 * GLOSSARY, one spelling everywhere
 *   batch     number of sequences               d_state    N, states per channel
 *   len       time steps in each                d_conv     taps of the causal convolution
 *   d_model   channels of a layer's x and y     dt_rank    R, inner width of the delta projection
 *   d_inner   channels inside a Mamba block     n_groups   G, channels / G share one B and one C
 *   dim       channels of an op                 expand     d_inner / d_model
 *
 * THE VERBS, the same for every layer (X = selective, s4d, s4, s5, s6, mamba)
 *   ssm_X_params    append the layer's parameters to a table: name, shape, offset, flags
 *   ssm_X_sizes     bytes of parameters, bound weights, state, workspace and tape
 *   ssm_X_init      fill the flat parameter array as the paper does, from a seed
 *   ssm_X_bind      lay weights out for the kernels, once: derive A = -exp(A_log), pack matrices
 *   ssm_X_attach    use a block that bind filled earlier: from a file, or constant in flash
 *   ssm_X_forward   whole sequences: any batch, any length, state in and out
 *   ssm_X_step      one time step of one or many streams
 *   ssm_X_record    forward that also fills the tape which backward reads
 *   ssm_X_backward  gradients of parameters, input and incoming state
 * Arguments come in one order: layer, state, inputs, outputs, extents, memory.
 *
 * LAYOUTS
 *   Sequences are [batch][len][channel] with channels contiguous, unless ssm_seqs gives strides
 *   (in elements). Packed sequences of different lengths lie end to end and ssm_seqs.start holds
 *   their offsets. A layer's state is one flat block of reals for each stream, streams one after
 *   another; the docstring of each layer gives its layout. Copy it to fork or save a stream, put
 *   it back to rewind, zero it to reset.
 *   The ops take views (ssm_in, ssm_out): a pointer and a stride for each axis. Stride 0
 *   broadcasts: one delta for all channels, one A for all channels, a constant B. A negative
 *   stride with the pointer at the last element runs backwards in time.
 *
 * GRADIENTS are always added to what is there, never overwritten: zero them first. That is what
 *   makes stride 0 right (the gradient of a broadcast value is the sum) and what lets several
 *   calls accumulate into one array.
 *
 * OTHER LIBRARIES, as configurations of these layers (each checked by a golden test)
 *   mamba_ssm Mamba           ssm_mamba, all zero
 *   transformers MambaBlock   ssm_mamba, pre_norm = 1, residual = 1
 *   zerfoo MambaBlock         ssm_mamba, no_dt_bias = 1
 *   traceTorch Mamba          ssm_mamba, preset SSM_PRESET_TRACETORCH
 *   zeta SSM                  ssm_s6, preset SSM_PRESET_ZETA
 *   traceTorch S6             ssm_s6, preset SSM_PRESET_TRACETORCH
 *   irithyll SelectiveSSM     ssm_selective, all zero
 *   state-spaces S4D (s4d.py)   ssm_s4d, activation GELU, output GLU
 *   state-spaces S4 (s4.py), lrnnx S4    ssm_s4, l_max = l_kernel for their checkpoints
 *   lrnnx S4D                 ssm_s4d, train_B = 1; its A_imag has the other sign
 *   traceTorch S4             ssm_s4d, preset SSM_PRESET_TRACETORCH
 *   zerfoo S4                 ssm_s4d, preset SSM_PRESET_ZERFOO
 *   irithyll DiagonalSSM      ssm_s4d, real_state = 1, weights = SSM_S4_WEIGHTS_ONE
 *   selective_scan_ref of mamba_ssm and of lrnnx   ssm_selective_scan_forward
 *   simplified_scan, s5_inner of lrnnx             ssm_s5_scan_forward
 *   lindermanlab S5SSM        ssm_s5, activation SSM_S5_NONE (SequenceLayer: with its activation)
 *   s5-pytorch                ssm_s5, activation SSM_S5_NONE, no_conj_sym (it has no factor 2)
 *   traceTorch S5             ssm_s5, preset SSM_PRESET_TRACETORCH
 *
 * WHAT IT DOES NOT DO: no tensors, no automatic differentiation, no file formats, no thread pool of
 * its own. No SIMD yet: the kernels are the scalar definition that faster ones must agree with.
 */

/*=============================================================================
 * >>config
 *=============================================================================
 *   macro               effect                                             where it must agree
 *   SSM_IMPLEMENTATION  compile the code here                              one source file
 *   SSM_STATIC          everything static, private to the including file   that file
 *   SSM_API             linkage of the public functions, if not extern     all files
 *   SSM_DOUBLE          ssm_real is double instead of float                all files
 *   SSM_ASSERT(x)       assertion for internal preconditions; default none implementation
 *   SSM_NO_LIBC         no C library at all: no <string.h>                 implementation
 *                       (GCC and clang may still emit calls of memcpy
 *                       and memset, as they may in any program)
 *   SSM_MEMCPY(d,s,n)   copy and fill of bytes; default memcpy and memset, implementation
 *   SSM_MEMSET(d,c,n)     own loops with SSM_NO_LIBC (define both or none)
 *   SSM_NO_OPENMP       no OpenMP even when the compiler has it on         implementation
 *   SSM_ONLY_EULER      the selective scan and its layers know EULER alone  implementation
 *   SSM_ONLY_REAL       no BF16 and INT8 matrices. Both are for flash:     implementation
 *                       what is left out is SSM_ERR_CONFIG then
 *   SSM_ALIGN           alignment inside memory blocks, power of 2; 64     implementation
 *   SSM_TILE_ROWS       rows (sequence x step) a layer works on at a time; 64   implementation
 *   SSM_LANES           output rows interleaved in packed weights; 16      implementation
 * None of the last three changes a single bit of a forward result.
 */

/*=============================================================================
 * >>contracts
 *=============================================================================
 * MEMORY. The library never allocates. A sizes function says how many bytes each block needs and
 *   the same code carves it; one byte less is SSM_ERR_MEMORY. Blocks may have any alignment
 *   (parameters, states, inputs and outputs: that of ssm_real). Weights are read only.
 * ERRORS. Every verb returns ssm_status. Arguments are checked before anything is written: on any
 *   error all outputs are as they were. NaN and infinity are data: they pass through their
 *   channel and no other (matrix products mix channels, as matrix products do).
 * THREADS. Functions are reentrant; there is no global state. A bound layer is read only and may
 *   be used from many threads at once; state, tape and workspace belong to one call at a time.
 *   Work inside a call is shared out through ssm_parallel or OpenMP; the pieces do not depend on the
 *   number of threads, so the results are the same bits for any.
 * ALIASING. Unless a docstring says otherwise: y may be x (same address, same strides); state in
 *   may be state out; nothing else may overlap.
 * NUMERICS. step, forward, forward in pieces, packed and batched: the same bits, always. The exceptions
 *   agree within rounding: the time-parallel scans CHUNKED and BLELLOCH, the linear scan's AUTO where it
 *   is CHUNKED, and the convolution form of S4D and S4 (in which a NaN also reaches its channel's past).
 *   Tile size, alignment, position in the batch and the number of threads cannot change a bit. Other
 *   compilers, or FMA contraction (switch it off with -ffp-contract=off), may change last bits. Functions
 *   of >>math state their error bounds. -ffast-math is not supported.
 *   A state left in silence decays into subnormal numbers, which many processors handle a hundred times
 *   slower: where time is bounded, switch flush-to-zero on (on x86 _MM_SET_FLUSH_ZERO_MODE, on ARM FPCR.FZ).
 * VERSIONS. Before 1.0 a minor version may change the interface or a default.
 */

/*=============================================================================
 * >>types
 *===========================================================================*/
#ifndef SSM_H
#define SSM_H

#include <stddef.h>
#include <stdint.h>

#define SSM_VERSION_MAJOR 0
#define SSM_VERSION_MINOR 1
#define SSM_VERSION_PATCH 0
#define SSM_VERSION (SSM_VERSION_MAJOR * 10000 + SSM_VERSION_MINOR * 100 + SSM_VERSION_PATCH)
#define SSM_VERSION_STRING "0.1.0"

#ifndef SSM_API
#if defined(SSM_STATIC) && (defined(__GNUC__) || defined(__clang__))
#define SSM_API static __attribute__((unused))
#elif defined(SSM_STATIC)
#define SSM_API static
#else
#define SSM_API extern
#endif
#endif

/* A static build declares what it must also define. */
#if defined(SSM_STATIC) && !defined(SSM_IMPLEMENTATION)
#define SSM_IMPLEMENTATION
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifdef SSM_DOUBLE
typedef double ssm_real;
#else
typedef float ssm_real;
#endif

#define SSM_STATUS_LIST(X)                                                              \
    X(SSM_OK, 0, "success")                                                             \
    X(SSM_ERR_NULL, -1, "a required pointer is NULL")                                   \
    X(SSM_ERR_CONFIG, -2, "a config field is missing or out of range")                  \
    X(SSM_ERR_SHAPE, -3, "extents, groups or sequence offsets do not fit together")     \
    X(SSM_ERR_MEMORY, -4, "a memory block is smaller than its sizes function asks for") \
    X(SSM_ERR_OVERFLOW, -5, "a size does not fit in size_t")                            \
    X(SSM_ERR_UNSUPPORTED, -6, "this configuration cannot do what was asked")

typedef enum ssm_status {
#define SSM__X(name, value, text) name = value,
    SSM_STATUS_LIST(SSM__X)
#undef SSM__X
    SSM_STATUS_END = 1 /* not a status: keeps the list above free of a last comma */
} ssm_status;

/* English text for a status; never NULL. */
SSM_API const char *ssm_status_string(ssm_status status);

/* SSM_VERSION of the compiled implementation, to compare with the header's. */
SSM_API int ssm_version(void);

/* How continuous A and B become one step of length delta, with x = delta A:
 *
 *     h[t] = a h[t-1] + b B[t] u[t]                  a              b
 *   ZOH         zero-order hold, exact               exp(x)         expm1(x) / A  (delta at A = 0)
 *   EULER       as mamba_ssm, ggml, zeta compute it  exp(x)         delta
 *   BILINEAR    Tustin                               (1 + x/2)/(1 - x/2)   delta/(1 - x/2)
 *   DIRAC       impulses: B is not scaled            exp(x)         1
 *   TRAPEZOID   exponential trapezoid (Mamba-3), which feeds the previous input too:
 *               h[t] = a h[t-1] + (1 - lambda) delta a B[t-1] u[t-1] + lambda delta B[t] u[t]
 *               Its state holds B u of the last step beside h, so it has 2 d_state rows.
 *
 * With a separate delta_A (event-driven input), a uses delta_A and b uses delta.
 * Source: Gu et al. 2021 (arXiv:2110.13985) for bilinear; Gu & Dao 2023 (arXiv:2312.00752) eq. 4
 * for ZOH; Mamba-3 (arXiv:2603.15569) for the trapezoid. */
typedef enum ssm_disc {
    SSM_DISC_DEFAULT = 0, /* the op's or layer's own: EULER unless its docstring says otherwise */
    SSM_DISC_ZOH,
    SSM_DISC_EULER,
    SSM_DISC_BILINEAR,
    SSM_DISC_DIRAC,
    SSM_DISC_TRAPEZOID
} ssm_disc;

/* Which algorithm runs along time.
 *   SEQUENTIAL  step after step; channels and sequences are what runs in parallel
 *   CHUNKED     chunks of time side by side: each from zero, then the carries from chunk to chunk,
 *               then each again from its true state. Twice the work, for few channels and many cores
 *   BLELLOCH    the same with the carries combined in a tree (up-sweep, down-sweep)
 *   AUTO        chosen from the shape alone, never from the number of threads
 * CHUNKED and BLELLOCH agree with SEQUENTIAL within rounding, not bit for bit. In a layer they see
 * whole sequences at once, so that the workspace grows with the length. Gradients run sequentially
 * along time. Source: Blelloch 1990, "Prefix sums and their applications". */
typedef enum ssm_scan {
    SSM_SCAN_AUTO = 0,
    SSM_SCAN_SEQUENTIAL,
    SSM_SCAN_BLELLOCH,
    SSM_SCAN_CHUNKED
} ssm_scan;

/* How bind stores the matrices of a layer. Inputs, sums, biases, the recurrence and its state stay
 * ssm_real, so only the weights are rounded:
 *   REAL   not at all
 *   BF16   to 8 significant bits (bfloat16, the nearest float to nearest even): half the bytes of a float
 *   INT8   to multiples of (largest |weight| of the output's row) / 127: a quarter of the bytes
 * forward and step read the same rounded weights, so they agree to the bit in every format. Gradients
 * are those of the unrounded parameters as if rounding changed nothing (straight-through). */
typedef enum ssm_format {
    SSM_FORMAT_REAL = 0,
    SSM_FORMAT_BF16,
    SSM_FORMAT_INT8
} ssm_format;

/* Strides of a [batch][len][channel] tensor, in elements. All zero: contiguous. */
typedef struct ssm_strides {
    ptrdiff_t batch;
    ptrdiff_t time;
    ptrdiff_t chan;
} ssm_strides;

/* The host program's own parallel loop. run calls task(context, i) once for every i < tasks, in any
 * order and on any threads, and returns when all are done. Tasks never depend on how many threads
 * there are, so neither do results. Without one: OpenMP if compiled with it, else a plain loop. */
typedef struct ssm_parallel {
    void (*run)(void *pool, size_t tasks, void (*task)(void *context, size_t index), void *context);
    void *pool;
} ssm_parallel;

/* The sequences a layer runs over.
 * start == NULL: `batch` sequences of `len` steps each.
 * start != NULL: packed. Sequence b is rows start[b] .. start[b+1]-1 of one tensor with `len` rows;
 *   batch + 1 offsets, never decreasing, the last at most len. The batch strides are not used.
 * step_scale: for irregular sampling, one factor for the step size of each row: [batch][len], or
 *   [len] rows when packed. NULL: 1. Read by S5; the other layers ignore it. For one step with a
 *   factor, call forward with len = 1: it is the same as step. */
typedef struct ssm_seqs {
    size_t batch;
    size_t len;
    const size_t *start;
    ssm_strides x;                /* of x and dx */
    ssm_strides y;                /* of y and dy */
    const ssm_parallel *parallel; /* NULL: OpenMP or none */
    const ssm_real *step_scale;
} ssm_seqs;

/* Bytes that a layer needs; params, bound and state do not depend on the length. */
typedef struct ssm_sizes {
    size_t params;        /* flat parameter array, and each gradient of it */
    size_t bound;         /* weights laid out by bind */
    size_t state;         /* states of all `batch` streams */
    size_t work;          /* forward, step and record. With state == NULL: work + state bytes */
    size_t work_step;     /* step alone, of all `batch` streams: never more than work if len > 0 */
    size_t tape;          /* what record writes for backward */
    size_t work_backward; /* backward. With dstate == NULL: work_backward + state bytes */
} ssm_sizes;

/* Views that the ops take: element (b, t, c, n) is data[b*batch + t*time + c*chan + n*state].
 * Strides in elements; 0 broadcasts. Axes that a tensor does not have are ignored. */
typedef struct ssm_in {
    const ssm_real *data;
    ptrdiff_t batch;
    ptrdiff_t time;
    ptrdiff_t chan;
    ptrdiff_t state;
} ssm_in;

typedef struct ssm_out {
    ssm_real *data;
    ptrdiff_t batch;
    ptrdiff_t time;
    ptrdiff_t chan;
    ptrdiff_t state;
} ssm_out;

/* Views of common layouts. A dimension of 1 costs nothing: [batch][len][groups][state] with one
 * group is [batch][len][state]. */
SSM_API ssm_in ssm_in_btc(const ssm_real *data, size_t len, size_t chans); /* [batch][len][chan] */
SSM_API ssm_in ssm_in_bct(const ssm_real *data, size_t chans, size_t len); /* [batch][chan][len] */
SSM_API ssm_in ssm_in_btcn(const ssm_real *data, size_t len, size_t chans, size_t states);
SSM_API ssm_in ssm_in_bcnt(const ssm_real *data, size_t chans, size_t states, size_t len);
SSM_API ssm_in ssm_in_bcn(const ssm_real *data, size_t chans, size_t states); /* [batch][chan][state] */
SSM_API ssm_in ssm_in_cn(const ssm_real *data, size_t states);                /* [chan][state] */
SSM_API ssm_in ssm_in_nc(const ssm_real *data, size_t chans);                 /* [state][chan] */
SSM_API ssm_in ssm_in_c(const ssm_real *data);                                /* [chan] */
/* The same tensor of complex numbers: (re, im) pairs. Strides always count reals. */
SSM_API ssm_in ssm_in_pairs(ssm_in view);
/* The writable twin of any view. */
SSM_API ssm_out ssm_out_like(ssm_real *data, ssm_in like);

/* One row of a parameter table. The walkers (init, AdamW, a checkpoint reader) need nothing else. */
typedef struct ssm_param {
    const char *prefix; /* as given by the caller, "" if NULL */
    const char *name;   /* as in the published checkpoint: "in_proj.weight" */
    size_t rank;        /* 1 to 3 */
    size_t shape[3];    /* row-major; unused entries are 1 */
    size_t offset;      /* of the first element in the flat array, in reals */
    size_t count;       /* shape[0] * shape[1] * shape[2] */
    int no_decay;       /* 1: no weight decay (A_log, D, biases, norms) */
    int init;           /* private: how init fills it, with its numbers */
    ssm_real init_arg[3];
} ssm_param;

/* A table under construction: rows in the caller's array. Layers append; offsets go on from
 * `count`, so one table can describe a whole model in one flat array. */
typedef struct ssm_params {
    ssm_param *row;
    size_t capacity;
    size_t rows;
    size_t count; /* reals in the flat array so far */
} ssm_params;

#define SSM_PARAMS_MAX 16 /* no layer appends more rows than this */

/* Row named prefix + name, or NULL. `full_name` is compared with the concatenation. */
SSM_API const ssm_param *ssm_params_find(const ssm_params *table, const char *full_name);

/* Fills params as the rows say (the papers' initialisation), from a seed. Each row has its own
 * stream of random numbers, so that one more row does not change the others.
 *   params  out  [table->count]
 * Errors: SSM_ERR_NULL. */
SSM_API ssm_status ssm_params_init(const ssm_params *table, ssm_real *params, uint64_t seed);

/*=============================================================================
 * >>api-ops
 *=============================================================================
 * A problem is one struct of extents, options and views; zero-initialise it and set what it has.
 * `start` packs sequences as in ssm_seqs: then batch counts sequences, len is the number of rows,
 * and the batch strides of everything with a time axis are ignored (those of states are not).
 */

/* Linear scan: the recurrence below all state space models, by itself.
 *
 *   h[t,c] = a[t,c] h[t-1,c] + b[t,c]                 (reverse: h[t+1,c] in place of h[t-1,c])
 *
 *   a, b    in   [b][t][c]
 *   h0      in   [b][c]       optional, zero if absent: the state before the first step taken
 *   h_last  out  [b][c]       optional: the state after the last step taken. May be h0
 *   h       out  [b][t][c]    may be b (in place) or a
 * `complex`: elements are (re, im) pairs, strides still count reals (so a dense pair tensor has
 * chan stride 2).
 *
 * Algorithms: see ssm_scan. BLELLOCH here is the tree over single steps. AUTO is CHUNKED for sequences of
 * 1024 steps or more of one or two channels, where it keeps several chunks in flight even on one core; with
 * ssm_parallel or OpenMP also for very long sequences of 8 to 16 channels. Otherwise it is SEQUENTIAL, which
 * shares out sequences and blocks of channels. It goes by the shape and by whether there is a parallel loop,
 * not by the number of threads.
 * Empty sequences copy h0 to h_last.
 * Errors: SSM_ERR_NULL (a, b, h), SSM_ERR_CONFIG (dim, scan), SSM_ERR_SHAPE (start), SSM_ERR_MEMORY,
 *         SSM_ERR_OVERFLOW.
 * Source: Blelloch 1990; Martin & Cundy 2018, arXiv:1709.04057, for the recurrence as a scan. */
typedef struct ssm_linear_scan {
    size_t batch;
    size_t len;
    size_t dim;
    const size_t *start; /* packed sequences, as in ssm_seqs */
    int complex_values;
    int reverse;
    ssm_scan scan;
    ssm_in a;
    ssm_in b;
    ssm_in h0;
    ssm_out h_last;
    ssm_out h;
    const ssm_parallel *parallel; /* NULL: OpenMP or none */
} ssm_linear_scan;

/* Gradients, each added to what is there; data == NULL: not wanted (dh_last: zero). dh is the
 * gradient of h itself. Complex: d/dRe + i d/dIm, as PyTorch. da needs h of the forward in `s->h`,
 * and h0. dh0 must not be dh_last.
 *   g[t] = dh[t] + conj(a[t+1]) g[t+1]     db = g     da[t] = g[t] conj(h[t-1])     dh0 = conj(a[0]) g[0] */
typedef struct ssm_linear_scan_grad {
    ssm_in dh;
    ssm_in dh_last;
    ssm_out da;
    ssm_out db;
    ssm_out dh0;
} ssm_linear_scan_grad;

/* need->work for forward; 0 if sequential. Takes the problem as forward will get it, tensors set. */
SSM_API ssm_status ssm_linear_scan_sizes(const ssm_linear_scan *s, ssm_sizes *need);
SSM_API ssm_status ssm_linear_scan_forward(const ssm_linear_scan *s, void *work, size_t work_bytes);
/* Sequential in time; channels and sequences run side by side unless a gradient broadcasts. */
SSM_API ssm_status ssm_linear_scan_backward(const ssm_linear_scan *s, const ssm_linear_scan_grad *grad);

/* The map h -> a h + b of a stretch of time, and how two of them combine: what splits a sequence over
 * machines (run each part from zero, exchange these maps in order, start each part from its own h0).
 * Not commutative. real: (a, b); complex_values: (a.re, a.im, b.re, b.im). */
SSM_API void ssm_carry_identity(ssm_real *carry, int complex_values);
/* out = later after earlier: (later.a earlier.a, later.a earlier.b + later.b). out may be either. */
SSM_API void ssm_carry_combine(ssm_real *out, const ssm_real *earlier, const ssm_real *later, int complex_values);

/* HiPPO-LegS memory: N numbers that hold the whole past of a signal, every moment of it with the same
 * weight, as the coefficients of a polynomial. One sample costs O(N).
 *
 *   update   (I + A/2k) c[k] = (I - A/2k) c[k-1] + B u / k         A, B: HiPPO-LegS
 *   recall   u(p) = sum_n c_n sqrt(2n+1) P_n(2p - 1), p in [0, 1]: 0 the first sample, 1 the last
 *
 *   c  inout  [n], zero before the first sample        k  in  1, 2, 3, ... which sample this is
 * The middle of sample j (0 .. k-1) is p = (j + 1/2) / k.
 * Errors: SSM_ERR_NULL, SSM_ERR_CONFIG (n or k 0).
 * Source: Gu et al. 2020, arXiv:2008.07669, theorem 2 and the bilinear form of appendix B.3. */
SSM_API ssm_status ssm_hippo_update(ssm_real *c, size_t n, size_t k, ssm_real u);
SSM_API ssm_status ssm_hippo_recall(const ssm_real *c, size_t n, ssm_real p, ssm_real *u);

/* Selective scan (S6): the recurrence of Mamba, with every coefficient allowed to vary.
 *
 *   dt[t,c]   = delta[t,c] + delta_bias[c], then softplus if delta_softplus
 *   h[t,c,n]  = a h[t-1,c,n] + b B[t,g,n] u[t,c]            a, b: see ssm_disc
 *   y[t,c]    = (sum_n C[t,g,n] h[t,c,n] + D[c] u[t,c]) silu(z[t,c])
 *
 *   u, delta     in   [b][t][c]
 *   A            in   [c][n]         real, normally negative
 *   B, C         in   [b][t][g][n]   the `chan` stride steps over groups; channel c uses group
 *                                    c / (dim / groups). Constant (dim, d_state) matrices:
 *                                    groups = dim, time stride 0
 *   D, delta_bias in  [c]            optional (data == NULL)
 *   z            in   [b][t][c]      optional gate
 *   delta_A      in   [b][t][c]      optional: step size for a alone, taken as it is
 *   lambda       in   [b][t][c]      TRAPEZOID only, optional, 1/2 if absent
 *   h0           in   [b][c][n]      optional, zero if absent; 2 d_state rows for TRAPEZOID:
 *                                    h, then B u of the last step
 *   h_last       out  [b][c][n]      optional; like h0
 *   y            out  [b][t][c]      fully overwritten
 *
 * Aliasing: h_last may be h0; y may be u or z. Empty sequences copy h0 to h_last.
 * Errors:   SSM_ERR_NULL (u, delta, A, B, C, y), SSM_ERR_CONFIG (dim, d_state, disc, scan),
 *           SSM_ERR_SHAPE (groups, start), SSM_ERR_MEMORY, SSM_ERR_OVERFLOW.
 * Source:   Gu & Dao 2023, arXiv:2312.00752, algorithm 2, with the authors' Euler step for B;
 *           selective_scan_ref of mamba_ssm (D, z, bias, softplus) and of lrnnx (disc, delta_A). */
typedef struct ssm_selective_scan {
    size_t batch;
    size_t len;
    size_t dim;
    size_t d_state;
    size_t B_groups; /* 0 means 1 */
    size_t C_groups; /* 0 means 1 */
    const size_t *start;
    ssm_disc disc; /* default EULER */
    ssm_scan scan;
    int delta_softplus;
    ssm_in u;
    ssm_in delta;
    ssm_in A;
    ssm_in B;
    ssm_in C;
    ssm_in D;
    ssm_in z;
    ssm_in delta_bias;
    ssm_in delta_A;
    ssm_in lambda;
    ssm_in h0;
    ssm_out h_last;
    ssm_out y;
    const ssm_parallel *parallel; /* NULL: OpenMP or none */
} ssm_selective_scan;

/* Gradients: dy and dh_last come in, the rest goes out, each added to what is there. A view with
 * data == NULL is not wanted (dh_last: zero). Shapes as in ssm_selective_scan; where the forward
 * input broadcasts, give its gradient the same zero stride. dh0 must not be dh_last. */
typedef struct ssm_selective_scan_grad {
    ssm_in dy;
    ssm_in dh_last;
    ssm_out du;
    ssm_out ddelta;
    ssm_out dA;
    ssm_out dB;
    ssm_out dC;
    ssm_out dD;
    ssm_out dz;
    ssm_out ddelta_bias;
    ssm_out ddelta_A;
    ssm_out dlambda;
    ssm_out dh0;
} ssm_selective_scan_grad;

/* need->work for forward (0 if sequential with h_last), need->work_backward for backward. Takes the
 * problem as forward will get it: u, delta, A, B and C set. */
SSM_API ssm_status ssm_selective_scan_sizes(const ssm_selective_scan *s, ssm_sizes *need);

SSM_API ssm_status ssm_selective_scan_forward(const ssm_selective_scan *s, void *work, size_t work_bytes);

/* One step for `batch` streams: len must be 1 and the state is updated in place (h0 is not read;
 * h_last is before and after). The same bits as forward.
 * Errors: as forward; SSM_ERR_NULL without h_last, SSM_ERR_SHAPE unless len == 1 and not packed. */
SSM_API ssm_status ssm_selective_scan_step(const ssm_selective_scan *s);

/* Backward. Runs the forward recurrence again: states are kept at every 64th step and recomputed
 * between, one channel at a time, so the workspace is (len / 64 + 64) rows of d_state, for any dim.
 * y of `s` is not used and may be absent.
 * Errors: as forward, SSM_ERR_NULL without dy.
 * Source: the adjoint recurrence g[t] = C[t] dy[t] + a[t+1] g[t+1], for every discretisation. */
SSM_API ssm_status ssm_selective_scan_backward(const ssm_selective_scan *s, const ssm_selective_scan_grad *grad,
                                               void *work, size_t work_bytes);

/* S5 scan: one complex state of d_state numbers, driven by all channels and read by all channels.
 *
 *   h[t,n] = a h[t-1,n] + b sum_c B[n,c] u[t,c]      a, b from A[n] and delta[t,n]: see ssm_disc
 *   y[t,c] = k sum_n C[c,n] h[t,n] + D[c] u[t,c]     real part, unless complex_output
 *
 * k = 2 with conj_sym (each state stands for a conjugate pair too), else 1.
 *
 *   u            in   [b][t][c]      real; complex with complex_input
 *   delta        in   [b][t][n]      real step size, taken as it is
 *   delta_A      in   [b][t][n]      optional: step size for a alone
 *   A            in   [n]            complex
 *   B, C         in   [c][n]         complex, C too. lrnnx's (P, H) B is ssm_in_nc
 *   D            in   [c]            real, optional
 *   h0           in   [b][n]         complex, optional, zero if absent
 *   h_last       out  [b][n]         complex, optional
 *   y            out  [b][t][c]      real; complex with complex_output. Fully overwritten
 *
 * Complex tensors are (re, im) pairs, strides count reals: make the view of one element each and
 * pass it through ssm_in_pairs. [b][t][n] is ssm_in_btcn with one channel. d_state is the number of
 * complex states.
 * Default disc: ZOH in its phi form, finite as A -> 0. TRAPEZOID is not offered. It runs
 * step after step; the layer ssm_s5 has the time-parallel forms.
 *
 * Aliasing: h_last may be h0; y may be u if both are real or both complex.
 * Errors:   SSM_ERR_NULL (u, delta, A, B, C, y), SSM_ERR_CONFIG (dim, d_state, disc, scan,
 *           conj_sym with complex_output), SSM_ERR_SHAPE (start), SSM_ERR_MEMORY, SSM_ERR_OVERFLOW.
 * Source:   Smith, Warrington & Linderman 2023, arXiv:2208.04933, section 3; simplified_scan and
 *           S5InnerFn of lrnnx (disc, delta_A, complex u), whose default disc is BILINEAR. */
typedef struct ssm_s5_scan {
    size_t batch;
    size_t len;
    size_t dim;     /* H */
    size_t d_state; /* P */
    const size_t *start;
    ssm_disc disc; /* default ZOH */
    int conj_sym;
    int complex_input;
    int complex_output;
    ssm_in u;
    ssm_in delta;
    ssm_in delta_A;
    ssm_in A;
    ssm_in B;
    ssm_in C;
    ssm_in D;
    ssm_in h0;
    ssm_out h_last;
    ssm_out y;
} ssm_s5_scan;

/* As in ssm_selective_scan_grad. The gradient of a complex number z is dL/dRe z + i dL/dIm z, as in
 * PyTorch. dh0 must not be dh_last. */
typedef struct ssm_s5_scan_grad {
    ssm_in dy;
    ssm_in dh_last;
    ssm_out du;
    ssm_out ddelta;
    ssm_out ddelta_A;
    ssm_out dA;
    ssm_out dB;
    ssm_out dC;
    ssm_out dD;
    ssm_out dh0;
} ssm_s5_scan_grad;

/* need->work for forward (0 unless h_last is absent), need->work_backward for backward. */
SSM_API ssm_status ssm_s5_scan_sizes(const ssm_s5_scan *s, ssm_sizes *need);
SSM_API ssm_status ssm_s5_scan_forward(const ssm_s5_scan *s, void *work, size_t work_bytes);
/* One step for `batch` streams, h_last in place: as ssm_selective_scan_step. */
SSM_API ssm_status ssm_s5_scan_step(const ssm_s5_scan *s);
/* As ssm_selective_scan_backward; the workspace is (len / 64 + 130) rows of d_state complex numbers. */
SSM_API ssm_status ssm_s5_scan_backward(const ssm_s5_scan *s, const ssm_s5_scan_grad *grad, void *work,
                                        size_t work_bytes);

/* Causal depthwise convolution, then SiLU if `silu`:
 *
 *   y[t,c] = bias[c] + sum_k weight[c,k] x[t - (width-1) + k, c]
 *
 *   x        in   [b][t][c]
 *   weight   in   [c][n], n = tap, the last one meets the current step
 *   bias     in   [c]              optional
 *   state    in   [b][c][n]        optional: the width-1 inputs before the first, oldest first
 *   state_last out [b][c][n]       optional: the last width-1 inputs. May be `state`
 *   y        out  [b][t][c]        must not overlap x unless width == 1
 *
 * Errors: SSM_ERR_NULL (x, weight, y), SSM_ERR_CONFIG (dim, width), SSM_ERR_SHAPE (start).
 * Source: causal_conv1d of Dao et al. (any width here; their state has the same width-1 inputs). */
typedef struct ssm_conv {
    size_t batch;
    size_t len;
    size_t dim;
    size_t width;
    const size_t *start;
    int silu;
    ssm_in x;
    ssm_in weight;
    ssm_in bias;
    ssm_in state;
    ssm_out state_last;
    ssm_out y;
    const ssm_parallel *parallel; /* NULL: OpenMP or none */
} ssm_conv;

typedef struct ssm_conv_grad { /* as in ssm_selective_scan_grad */
    ssm_in dy;
    ssm_in dstate_last;
    ssm_out dx;
    ssm_out dweight;
    ssm_out dbias;
    ssm_out dstate; /* must not be dstate_last */
} ssm_conv_grad;

SSM_API ssm_status ssm_conv_forward(const ssm_conv *s);
SSM_API ssm_status ssm_conv_step(const ssm_conv *s); /* len 1, state_last updated in place */
SSM_API ssm_status ssm_conv_backward(const ssm_conv *s, const ssm_conv_grad *grad);

/* y[r] = weight x[r] + bias for `rows` rows.
 *   weight  [out][in] row-major, bias [out] or NULL
 *   packed  the same weights in the kernels' order and in `format`, made by ssm_linear_pack, or NULL:
 *           forward then reads `weight`, with the bits of SSM_FORMAT_REAL and less speed. Backward
 *           reads `weight`.
 * Each output is accumulated over `in` in order, so neither packing nor the number of rows can
 * change a bit. x_row and y_row are the strides from row to row, in elements. */
typedef struct ssm_linear {
    size_t in;
    size_t out;
    const ssm_real *weight;
    const ssm_real *bias;
    const void *packed;
    ssm_format format;
} ssm_linear;

SSM_API ssm_status ssm_linear_pack_size(const ssm_linear *linear, size_t *bytes);
/* packed out: pack_size bytes, aligned as ssm_real. */
SSM_API ssm_status ssm_linear_pack(const ssm_linear *linear, void *packed, size_t packed_bytes);
/* y must not overlap x. Errors: SSM_ERR_NULL, SSM_ERR_CONFIG (in or out 0). */
SSM_API ssm_status ssm_linear_forward(const ssm_linear *linear, const ssm_real *x, ptrdiff_t x_row, ssm_real *y,
                                      ptrdiff_t y_row, size_t rows);
/* dx[r] += weight^T dy[r]; dweight += sum_r dy[r] x[r]^T; dbias += sum_r dy[r]. NULL: not wanted. */
SSM_API ssm_status ssm_linear_backward(const ssm_linear *linear, const ssm_real *x, ptrdiff_t x_row, const ssm_real *dy,
                                       ptrdiff_t dy_row, ssm_real *dx, ptrdiff_t dx_row, ssm_real *dweight,
                                       ssm_real *dbias, size_t rows);
/* Appends "weight" [out][in] and, if bias, "bias" [out]; both U(-1/sqrt(in), 1/sqrt(in)). */
SSM_API ssm_status ssm_linear_params(size_t in, size_t out, int bias, const char *prefix, ssm_params *table);

/* y[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight, the mean over dim. y may be x.
 * The sum of squares must not overflow: in float, |x| sqrt(dim) below 1e19, else y is 0.
 * Source: Zhang & Sennrich 2019, arXiv:1910.07467. Errors: SSM_ERR_NULL, SSM_ERR_CONFIG (dim 0). */
typedef struct ssm_norm {
    size_t dim;
    ssm_real eps; /* 0 means 1e-5 */
    const ssm_real *weight;
} ssm_norm;

SSM_API ssm_status ssm_norm_forward(const ssm_norm *norm, const ssm_real *x, ptrdiff_t x_row, ssm_real *y,
                                    ptrdiff_t y_row, size_t rows);
/* Adds to dx and dweight; either may be NULL. */
SSM_API ssm_status ssm_norm_backward(const ssm_norm *norm, const ssm_real *x, ptrdiff_t x_row, const ssm_real *dy,
                                     ptrdiff_t dy_row, ssm_real *dx, ptrdiff_t dx_row, ssm_real *dweight, size_t rows);
/* Appends "weight" [dim], ones. */
SSM_API ssm_status ssm_norm_params(size_t dim, const char *prefix, ssm_params *table);

/* Discrete Fourier transform of n complex numbers, n a power of two, in place:
 *
 *   X[k] = sum_j x[j] exp(-2 pi i jk / n)       inverse: x[j] = 1/n sum_k X[k] exp(2 pi i jk / n)
 *
 *   data  inout  [n][2]   (re, im)
 *
 * ssm_fft_size gives the bytes of `work`. Errors: SSM_ERR_NULL, SSM_ERR_SHAPE (n), SSM_ERR_MEMORY.
 * Accuracy: |error| / |spectrum| below 3e-7 (float), 2e-15 (double) for n <= 1024, growing as log n.
 * Source: Cooley & Tukey 1965; twiddles by sincos of an angle in the first octant, none by recurrence. */
SSM_API ssm_status ssm_fft_size(size_t n, size_t *bytes);
SSM_API ssm_status ssm_fft(ssm_real *data, size_t n, int inverse, void *work, size_t work_bytes);

/* Linear convolution y[t] = sum_j a[j] b[t - j] of real sequences of any lengths, by one transform of
 * the first power of two >= a_len + b_len - 1.
 *   y  out  [a_len + b_len - 1]   nothing if a length is 0; may be a or b
 * Errors: SSM_ERR_NULL, SSM_ERR_MEMORY, SSM_ERR_OVERFLOW. */
SSM_API ssm_status ssm_convolve_size(size_t a_len, size_t b_len, size_t *bytes);
SSM_API ssm_status ssm_convolve(const ssm_real *a, size_t a_len, const ssm_real *b, size_t b_len, ssm_real *y,
                                void *work, size_t work_bytes);

/*=============================================================================
 * >>api-layers
 *=============================================================================
 * The verbs of every layer, described once (X = selective, s4d, s4, s5, s6, mamba):
 *
 * ssm_X_config_resolve(config, resolved)   defaults filled in, everything checked.
 * ssm_X_params(config, prefix, table)      appends the layer's rows.
 * ssm_X_sizes(config, seqs, need)          see ssm_sizes; for a step: seqs with len = 1.
 * ssm_X_init(config, params, seed)         params out: need.params bytes.
 * ssm_X_bind(layer, config, params, mem, bytes)
 *     mem: need.bound bytes, which belong to `layer` from then on and hold all that forward and
 *     step read. backward also reads params: keep them as they were. Bind again after a change.
 * ssm_X_attach(layer, config, data, bytes)
 *     data: layer->bound.data[0 .. bound.bytes) as bind left it for the same config, aligned as ssm_real and
 *     only read. Needs no parameters, so record, backward and what else reads them (kernels of S4, its
 *     convolution form) are SSM_ERR_UNSUPPORTED. The block belongs to one build: the same ssm_real, SSM_LANES,
 *     byte order and version of the layout. Anything else, any changed byte, and a config by which forward or
 *     step would compute something else, is SSM_ERR_CONFIG; too few bytes or no alignment SSM_ERR_MEMORY.
 * ssm_X_forward(layer, state, x, y, seqs, work, bytes)
 *     x [batch][len][d_model] in, y the same out (y may be x), state [batch][floats] inout.
 *     state == NULL: start from zero, forget the end. batch or len 0: nothing happens.
 * ssm_X_step(layer, state, x, y, streams, work, bytes)
 *     x, y [streams][d_model], state [streams][floats]: one time step of each stream, the same
 *     bits as forward. bytes: need.work_step for `batch` streams is enough.
 * ssm_X_record(layer, state, x, y, seqs, tape, tape_bytes, work, bytes)
 *     forward, and fills the tape.
 * ssm_X_backward(layer, dstate, x, dy, dx, dparams, seqs, tape, tape_bytes, work, bytes)
 *     x, seqs and tape as given to record. dstate inout: gradient of the state after the
 *     sequence -> of the state before it; NULL: zero, not wanted. dx and dparams: added to; NULL:
 *     not wanted. bytes: need.work_backward, plus need.state with dstate == NULL.
 *
 * Errors of all: SSM_ERR_NULL, SSM_ERR_CONFIG (sizes 0, dim % groups, unknown option),
 *     SSM_ERR_SHAPE (start), SSM_ERR_MEMORY (also a full parameter table), SSM_ERR_OVERFLOW,
 *     SSM_ERR_UNSUPPORTED (see the layer); nothing is written then.
 */

/* Ready-made differences: how another library sets up the same layer. A preset that a layer does not
 * know changes nothing. S6 and Mamba know all; S4D TRACETORCH and ZERFOO; S5 TRACETORCH. */
typedef enum ssm_preset {
    SSM_PRESET_PAPER = 0,  /* mamba_ssm */
    SSM_PRESET_ZETA,       /* zeta.nn SSM: Euler, dt bias as any linear layer's */
    SSM_PRESET_TRACETORCH, /* traceTorch S6, Mamba: ZOH, dt_rank max(1, d/16), dt bias -2 ...; its S4 and S5 */
    SSM_PRESET_ZERFOO      /* zerfoo MambaBlock: no dt bias, small dt weights; its S4 */
} ssm_preset;

/* How the bias of the delta projection starts. */
typedef enum ssm_dt_init {
    SSM_DT_LOG_UNIFORM = 0, /* softplus(bias) log-uniform in [dt_min, dt_max], at least dt_floor */
    SSM_DT_UNIFORM,         /* U(-1/sqrt(dt_rank), 1/sqrt(dt_rank)), as a plain linear layer */
    SSM_DT_CONSTANT         /* dt_bias everywhere */
} ssm_dt_init;

/* What bind made of the parameters: save these bytes to attach them later. In the block that bind was
 * given they start at the first multiple of 64 bytes. */
typedef struct ssm_bound {
    const void *data;
    size_t bytes;
} ssm_bound;

/* Offsets of a core's parameters in the flat array; (size_t)-1: it has none. */
typedef struct ssm_core_offsets {
    size_t x_proj;
    size_t dt_proj;
    size_t dt_bias;
    size_t A_log;
    size_t D;
} ssm_core_offsets;

/* What selective, S6 and Mamba have inside: the projections of the input to delta, B and C, and
 * the selective scan. Filled by bind; read only. */
typedef struct ssm_core {
    size_t dim;
    size_t d_state;
    size_t dt_rank; /* 0: delta is one number per step, straight from the projection */
    size_t n_groups;
    ssm_disc disc;
    ssm_scan scan;
    ssm_format format;
    int shared_A; /* A is [d_state], the same for all channels */
    ssm_linear x_proj;
    ssm_linear dt_proj;
    const ssm_real *dt_bias;
    const ssm_real *A; /* [d_state][dim], or [d_state] if shared; then the largest delta of the fast kernel */
    const ssm_real *D;
    ssm_core_offsets offsets;
} ssm_core;

/* --- selective: one step size for all channels ---------------------------------------------
 *
 *   delta[t] = softplus(w_delta . x[t] + b_delta)      B[t] = w_b x[t]      C[t] = w_c x[t]
 *   A[n]     = -exp(log_a[n])                          y = C h + d_skip x,  ZOH
 *
 * Parameters (irithyll's names): w_delta [D], w_b [N][D], w_c [N][D], b_delta [1], log_a [N],
 *   d_skip [D]. Weights N(0, 0.1^2), b_delta 0, d_skip 1.
 * State: h [N][D].
 * Source: irithyll_core SelectiveSSM (Gu & Dao 2023 with a scalar step). It stores no gradient and
 *   uses exp(x) - 1; here ZOH is the expm1 form and finite as A -> 0. */
typedef struct ssm_selective_config {
    size_t d_model; /* channels (d_in), required */
    size_t d_state; /* N (n_state), default 16 */
    ssm_disc disc;  /* default ZOH */
    ssm_scan scan;
    ssm_format format; /* of the matrices in the bound block */
    int integer_A;     /* log_a starts at ln(n + 1) instead of ln(0.5 + n/N) */
} ssm_selective_config;

typedef struct ssm_selective {
    ssm_selective_config config; /* resolved */
    ssm_core core;
    ssm_bound bound;
} ssm_selective;

SSM_API ssm_status ssm_selective_config_resolve(const ssm_selective_config *config, ssm_selective_config *resolved);
SSM_API ssm_status ssm_selective_params(const ssm_selective_config *config, const char *prefix, ssm_params *table);
SSM_API ssm_status ssm_selective_sizes(const ssm_selective_config *config, const ssm_seqs *seqs, ssm_sizes *need);
SSM_API ssm_status ssm_selective_init(const ssm_selective_config *config, ssm_real *params, uint64_t seed);
SSM_API ssm_status ssm_selective_bind(ssm_selective *layer, const ssm_selective_config *config, const ssm_real *params,
                                      void *mem, size_t mem_bytes);
SSM_API ssm_status ssm_selective_attach(ssm_selective *layer, const ssm_selective_config *config, const void *data,
                                        size_t bytes);
SSM_API ssm_status ssm_selective_forward(const ssm_selective *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                         const ssm_seqs *seqs, void *work, size_t work_bytes);
SSM_API ssm_status ssm_selective_step(const ssm_selective *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                      size_t streams, void *work, size_t work_bytes);
SSM_API ssm_status ssm_selective_record(const ssm_selective *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                        const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work,
                                        size_t work_bytes);
SSM_API ssm_status ssm_selective_backward(const ssm_selective *layer, ssm_real *dstate, const ssm_real *x,
                                          const ssm_real *dy, ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs,
                                          const void *tape, size_t tape_bytes, void *work, size_t work_bytes);
/* Makes channel `channel` new and leaves all others alone: its w_delta entry and its columns of
 * w_b and w_c are drawn again, its d_skip is 1, its state in each of `streams` states is zero.
 *   params inout; state inout [streams][N][D] or NULL. Bind again afterwards.
 * Errors: SSM_ERR_NULL, SSM_ERR_CONFIG (channel >= d_model). */
SSM_API ssm_status ssm_selective_reinitialize_channel(const ssm_selective_config *config, ssm_real *params,
                                                      ssm_real *state, size_t streams, size_t channel, uint64_t seed);

/* --- s6: the selective state space layer ---------------------------------------------------
 *
 *   [dt | B | C] = x_proj x      delta = softplus(dt_proj dt + bias)     A = -exp(A_log)
 *   y = selective scan of (x, delta, A, B, C, D)
 *
 * Parameters: x_proj.weight [R + 2GN][D], dt_proj.weight [D][R], dt_proj.bias [D], A_log [D][N],
 *   D [D]. A_log = ln(1..N), D = 1, the rest as mamba_ssm.
 * State: h [N][D] (TRAPEZOID: [2N][D], h then B u).
 * Source: Gu & Dao 2023, arXiv:2312.00752, section 3.2 and algorithm 2. zeta.nn calls x_proj
 *   deltaBC_layer and dt_proj dt_proj_layer; its sequential switch never worked, ours does. */
typedef struct ssm_s6_config {
    size_t d_model;  /* channels, required */
    size_t d_state;  /* N, default 16 */
    size_t dt_rank;  /* R, default ceil(d_model / 16) */
    size_t n_groups; /* G, default 1 */
    ssm_disc disc;   /* default EULER, as the authors compute it */
    ssm_scan scan;
    ssm_format format; /* of the matrices in the bound block */
    int no_dt_bias;
    ssm_dt_init dt_init;
    ssm_real dt_min;   /* default 0.001 */
    ssm_real dt_max;   /* default 0.1 */
    ssm_real dt_floor; /* default 1e-4 */
    ssm_real dt_scale; /* dt_proj.weight is U(-dt_scale/sqrt(R), dt_scale/sqrt(R)); default 1 */
    ssm_real dt_bias;  /* for SSM_DT_CONSTANT */
} ssm_s6_config;

typedef struct ssm_s6 {
    ssm_s6_config config; /* resolved */
    ssm_core core;
    ssm_bound bound;
} ssm_s6;

/* Sets the fields in which `preset` differs from zero; call it after d_model is set. */
SSM_API void ssm_s6_preset(ssm_s6_config *config, ssm_preset preset);
SSM_API ssm_status ssm_s6_config_resolve(const ssm_s6_config *config, ssm_s6_config *resolved);
SSM_API ssm_status ssm_s6_params(const ssm_s6_config *config, const char *prefix, ssm_params *table);
SSM_API ssm_status ssm_s6_sizes(const ssm_s6_config *config, const ssm_seqs *seqs, ssm_sizes *need);
SSM_API ssm_status ssm_s6_init(const ssm_s6_config *config, ssm_real *params, uint64_t seed);
SSM_API ssm_status ssm_s6_bind(ssm_s6 *layer, const ssm_s6_config *config, const ssm_real *params, void *mem,
                               size_t mem_bytes);
SSM_API ssm_status ssm_s6_attach(ssm_s6 *layer, const ssm_s6_config *config, const void *data, size_t bytes);
SSM_API ssm_status ssm_s6_forward(const ssm_s6 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  const ssm_seqs *seqs, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s6_step(const ssm_s6 *layer, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                               void *work, size_t work_bytes);
SSM_API ssm_status ssm_s6_record(const ssm_s6 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                 const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s6_backward(const ssm_s6 *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                   ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                   size_t tape_bytes, void *work, size_t work_bytes);

/* --- mamba: the Mamba block ----------------------------------------------------------------
 *
 *   [u | z] = in_proj (RMSNorm(x) if pre_norm)      u = silu(conv1d(u))
 *   s = S6(u) silu(z)                               y = out_proj s  (+ x if residual)
 *
 * Parameters (mamba_ssm's names, E = d_inner, M = d_model): norm.weight [M] if pre_norm,
 *   in_proj.weight [2E][M], in_proj.bias [2E] if proj_bias, conv1d.weight [E][1][K], conv1d.bias [E],
 *   x_proj.weight [R + 2GN][E], dt_proj.weight [E][R], dt_proj.bias [E], A_log [E][N], D [E],
 *   out_proj.weight [M][E], out_proj.bias [M] if proj_bias.
 * State: conv [K-1][E], the last inputs of the convolution, oldest first (mamba_ssm keeps K of
 *   them, transposed); then h [N][E] (TRAPEZOID: [2N][E]).
 * d_conv = 1 leaves the convolution out; the SiLU stays.
 * Source: Gu & Dao 2023, arXiv:2312.00752, figure 3 and section 3.4; mamba_ssm's initialisation. */
typedef struct ssm_mamba_config {
    size_t d_model;  /* M, required */
    size_t d_state;  /* N, default 16 */
    size_t d_conv;   /* K, default 4; 1: no convolution */
    size_t expand;   /* default 2 */
    size_t d_inner;  /* E, default expand * d_model */
    size_t dt_rank;  /* R, default ceil(d_model / 16) */
    size_t n_groups; /* G, default 1 */
    ssm_disc disc;   /* default EULER, as the authors compute it */
    ssm_scan scan;
    ssm_format format; /* of the matrices in the bound block */
    int pre_norm;      /* RMSNorm of the input */
    int residual;      /* y += x */
    int proj_bias;     /* biases in in_proj and out_proj */
    int no_conv_bias;
    int no_dt_bias;
    int mean_conv; /* conv1d starts as a moving average: weights 1/K, bias 0 */
    ssm_dt_init dt_init;
    ssm_real dt_min;   /* default 0.001 */
    ssm_real dt_max;   /* default 0.1 */
    ssm_real dt_floor; /* default 1e-4 */
    ssm_real dt_scale; /* default 1 */
    ssm_real dt_bias;  /* for SSM_DT_CONSTANT */
    ssm_real norm_eps; /* default 1e-5 */
} ssm_mamba_config;

typedef struct ssm_mamba {
    ssm_mamba_config config; /* resolved */
    ssm_norm norm;
    ssm_linear in_u; /* in_proj, its two halves */
    ssm_linear in_z;
    ssm_linear out_proj;
    const ssm_real *conv_weight; /* [K][E] */
    const ssm_real *conv_bias;
    ssm_core core;
    size_t states;  /* reals in the state of one stream */
    size_t scratch; /* and in the scratch of its step */
    ssm_bound bound;
} ssm_mamba;

SSM_API void ssm_mamba_preset(ssm_mamba_config *config, ssm_preset preset);
SSM_API ssm_status ssm_mamba_config_resolve(const ssm_mamba_config *config, ssm_mamba_config *resolved);
SSM_API ssm_status ssm_mamba_params(const ssm_mamba_config *config, const char *prefix, ssm_params *table);
SSM_API ssm_status ssm_mamba_sizes(const ssm_mamba_config *config, const ssm_seqs *seqs, ssm_sizes *need);
SSM_API ssm_status ssm_mamba_init(const ssm_mamba_config *config, ssm_real *params, uint64_t seed);
SSM_API ssm_status ssm_mamba_bind(ssm_mamba *layer, const ssm_mamba_config *config, const ssm_real *params, void *mem,
                                  size_t mem_bytes);
SSM_API ssm_status ssm_mamba_attach(ssm_mamba *layer, const ssm_mamba_config *config, const void *data, size_t bytes);
SSM_API ssm_status ssm_mamba_forward(const ssm_mamba *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                     const ssm_seqs *seqs, void *work, size_t work_bytes);
SSM_API ssm_status ssm_mamba_step(const ssm_mamba *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  size_t streams, void *work, size_t work_bytes);
SSM_API ssm_status ssm_mamba_record(const ssm_mamba *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                    const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes);
SSM_API ssm_status ssm_mamba_backward(const ssm_mamba *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                      ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                      size_t tape_bytes, void *work, size_t work_bytes);

/* How A of S4D starts, n < N/2 (n < N if real); real part -1/2 unless stated. */
typedef enum ssm_s4_A_init {
    SSM_S4_INIT_DEFAULT = 0, /* LIN, or REAL if real_state */
    SSM_S4_INIT_LIN,         /* -1/2 + i pi n; real: -1/2 */
    SSM_S4_INIT_INV,         /* -1/2 + i N/pi (N/(2n + 1) - 1); real: -(1/2 + n/N) */
    SSM_S4_INIT_LEGS,        /* eigenvalues of the normal part of HiPPO-LegS; not for real */
    SSM_S4_INIT_REAL         /* -(n + 1) */
} ssm_s4_A_init;

/* How B, C and D of S4D start. */
typedef enum ssm_s4_weights {
    SSM_S4_WEIGHTS_NORMAL = 0, /* B 1 (LEGS: that of HiPPO), C (complex) normal, D N(0, 1) */
    SSM_S4_WEIGHTS_ALL_NORMAL, /* B, C, D N(0, 1) */
    SSM_S4_WEIGHTS_UNIFORM,    /* B, C U(-1/2, 1/2) / sqrt(N), D 1 */
    SSM_S4_WEIGHTS_ONE         /* B, C 1, D 0 */
} ssm_s4_weights;

/* Which form forward computes. step, record and backward are the recurrence in either form; `scan` says how
 * the recurrence runs along time.
 * CONVOLUTION makes the kernel once a call and convolves by FFT: memory in proportion to the longest
 * sequence, the same as the recurrence within rounding. A state that is carried costs passes of the
 * recurrence beside it. The convolution wins with many states and several sequences at once (N = 64, 8
 * sequences: about half the time; `make bench` shows where), the recurrence for one sequence always. AUTO
 * is the recurrence: the same bits in pieces, and memory that does not grow with the length. */
typedef enum ssm_s4_form {
    SSM_S4_FORM_AUTO = 0,
    SSM_S4_FORM_RECURRENT,
    SSM_S4_FORM_CONVOLUTION
} ssm_s4_form;

typedef enum ssm_s4_activation {
    SSM_S4_ACTIVATION_NONE = 0,
    SSM_S4_ACTIVATION_GELU /* exact, by erf */
} ssm_s4_activation;

typedef enum ssm_s4_output {
    SSM_S4_OUTPUT_NONE = 0,
    SSM_S4_OUTPUT_GLU /* v = output_linear y, [2H]; y = v[0..H) sigmoid(v[H..2H)) */
} ssm_s4_output;

/* Offsets of the parameters in the flat array; (size_t)-1: there is none. */
typedef struct ssm_s4_offsets {
    size_t norm;
    size_t log_dt;
    size_t A_real;
    size_t A_imag;
    size_t P;
    size_t B;
    size_t C;
    size_t D;
    size_t out_weight;
    size_t out_bias;
} ssm_s4_offsets;

/* What S4D and S4 have inside: the recurrence of every channel h
 *
 *     s[t] = a s[t-1] - p Re(l . s[t-1]) + b u[t]        y[t] = Re(c . s[t]) + D u[t]
 *
 * with p = l = 0 for S4D. Filled by bind; read only. */
typedef struct ssm_s4_core {
    size_t dim;        /* H */
    size_t d_state;    /* N */
    size_t states;     /* stored for each channel: N if real, else N/2, one of each conjugate pair */
    size_t parts;      /* 1: real, 2: (re, im) */
    size_t n_ssm;      /* rows of A, B and P; channel h uses row h % n_ssm */
    size_t directions; /* 2: bidirectional */
    size_t l_max;
    int low_rank; /* S4 */
    ssm_disc disc;
    ssm_scan scan;
    ssm_s4_form form;
    ssm_format format;
    ssm_s4_activation activation;
    ssm_s4_output output;
    int residual;
    int pre_norm;
    const ssm_real *a; /* a, b, p, l: [state][part][H]; c: [direction][state][part][H] */
    const ssm_real *b;
    const ssm_real *c;
    const ssm_real *p;
    const ssm_real *l;
    const ssm_real *D;
    const ssm_real *params; /* as given to bind */
    ssm_norm norm;
    ssm_linear out;
    ssm_s4_offsets offsets;
} ssm_s4_core;

/* --- s4d: diagonal state spaces --------------------------------------------------------------
 *
 *   A = -exp(log_A_real) + i A_imag     delta = exp(log_dt)     Abar, Bbar: see ssm_disc
 *   s[t] = Abar s[t-1] + Bbar x[t]      y[t] = 2 Re(C . s[t]) + D x[t]      (real: C . s + D x)
 *   y = output(activation(y))  (+ x if residual);  x is RMSNorm(x) if pre_norm
 *
 * Parameters (the authors' s4d.py): norm.weight [H] if pre_norm, log_dt [H] unless no_dt,
 *   log_A_real, A_imag [n_ssm][N/2], B [n_ssm][N/2][2] if train_B (else 1), C [H][N/2][2], D [H],
 *   output_linear.weight [2H][H] and .bias [2H] with GLU. real_state: N instead of N/2, no A_imag, B
 *   and C without the last extent. bidirectional: C [2H][N/2][2], the second H for the reverse direction.
 * State: s [N/2][re, im][H], or [N][H] if real.
 * Bidirectional: y[t] also has 2 Re sum_l C' Abar^l Bbar x[t+1+l], as s4.py; sequences must be whole:
 *   step is SSM_ERR_UNSUPPORTED and the state is that of the forward direction.
 * TRAPEZOID is not defined here: SSM_ERR_CONFIG.
 * scan: CHUNKED and BLELLOCH run every direction in chunks of 64 steps; a sequence of one chunk is sequential.
 * Source: Gu, Gupta, Goel & Re 2022, arXiv:2206.11893; s4d.py of state-spaces/s4. Real: traceTorch S4,
 *   zerfoo S4 and irithyll DiagonalSSM, see ssm_s4d_preset. */
typedef struct ssm_s4d_config {
    size_t d_model; /* H, required */
    size_t d_state; /* N, default 64; even unless real_state */
    size_t n_ssm;   /* default d_model, which it must divide */
    int real_state;
    int train_B;
    int no_dt;     /* delta is 1 and log_dt absent */
    ssm_disc disc; /* default ZOH */
    ssm_scan scan;
    ssm_s4_A_init init;
    ssm_s4_weights weights;
    int normal_dt;     /* log_dt N(0, 1) instead of log-uniform */
    ssm_real dt_min;   /* default 0.001 */
    ssm_real dt_max;   /* default 0.1 */
    ssm_format format; /* of output_linear in the bound block */
    ssm_s4_form form;
    int bidirectional;
    ssm_s4_activation activation;
    ssm_s4_output output;
    int pre_norm;
    int residual;
    ssm_real norm_eps; /* default 1e-5 */
} ssm_s4d_config;

typedef struct ssm_s4d {
    ssm_s4d_config config; /* resolved */
    ssm_s4_core core;
    ssm_bound bound;
} ssm_s4d;

/* TRACETORCH: traceTorch S4 (real, ZOH, everything normal). ZERFOO: zerfoo S4 (real, B as it is,
 * Abar = exp(A)). irithyll's DiagonalSSM is real_state = 1, weights = SSM_S4_WEIGHTS_ONE, d_model = 1. */
SSM_API void ssm_s4d_preset(ssm_s4d_config *config, ssm_preset preset);
SSM_API ssm_status ssm_s4d_config_resolve(const ssm_s4d_config *config, ssm_s4d_config *resolved);
SSM_API ssm_status ssm_s4d_params(const ssm_s4d_config *config, const char *prefix, ssm_params *table);
SSM_API ssm_status ssm_s4d_sizes(const ssm_s4d_config *config, const ssm_seqs *seqs, ssm_sizes *need);
SSM_API ssm_status ssm_s4d_init(const ssm_s4d_config *config, ssm_real *params, uint64_t seed);
SSM_API ssm_status ssm_s4d_bind(ssm_s4d *layer, const ssm_s4d_config *config, const ssm_real *params, void *mem,
                                size_t mem_bytes);
SSM_API ssm_status ssm_s4d_attach(ssm_s4d *layer, const ssm_s4d_config *config, const void *data, size_t bytes);
SSM_API ssm_status ssm_s4d_forward(const ssm_s4d *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                   const ssm_seqs *seqs, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s4d_step(const ssm_s4d *layer, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                                void *work, size_t work_bytes);
SSM_API ssm_status ssm_s4d_record(const ssm_s4d *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s4d_backward(const ssm_s4d *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                    ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                    size_t tape_bytes, void *work, size_t work_bytes);
/* The convolution kernel K[l] = 2 Re(C . Abar^l Bbar) of a bound layer (real: without the 2), without D.
 *   kernel   out  [direction][H][len]   (one direction unless bidirectional)
 *   dkernel  in   the same; dparams inout [need.params]: gradients are added
 * By powers of Abar: the recurrence's answer to an impulse.
 * Errors: as the verbs; bytes of `work`, for both: ssm_s4d_kernel_size. */
SSM_API ssm_status ssm_s4d_kernel_size(const ssm_s4d *layer, size_t len, size_t *bytes);
SSM_API ssm_status ssm_s4d_kernel(const ssm_s4d *layer, ssm_real *kernel, size_t len, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s4d_kernel_backward(const ssm_s4d *layer, const ssm_real *dkernel, ssm_real *dparams, size_t len,
                                           void *work, size_t work_bytes);
/* --- s4: diagonal plus low rank --------------------------------------------------------------
 *
 *   A = Lambda - P P^H on conjugate pairs, Lambda = -exp(A_real) - i A_imag, discretised bilinearly:
 *   Abar = (1 - delta/2 A)^-1 (1 + delta/2 A)      Bbar = (1 - delta/2 A)^-1 delta B
 *   s[t] = Abar s[t-1] + Bbar x[t]                 y[t] = 2 Re(C . s[t]) + D x[t]
 *   in O(N) a step: Abar is diagonal plus rank one. Then as S4D.
 *
 * Parameters (state-spaces/s4): norm.weight [H] if pre_norm, log_dt [H], A_real, A_imag [n_ssm][N/2],
 *   P, B [n_ssm][N/2][2], C [H][N/2][2] (bidirectional: [2H]), D [H], output_linear.* as S4D. Starts at
 *   HiPPO-LegS: eigenvalues with negative imaginary part, B = 1/|v| real, P = B / sqrt 2.
 * C: with l_max = 0 the matrix C itself. The authors' checkpoints store C~ = (I - Abar^L)^T C instead:
 *   l_max = L (their l_kernel) makes bind solve for C. Such a layer is for inference: record and
 *   ssm_s4_kernel_backward are SSM_ERR_UNSUPPORTED; ssm_s4_plain_C
 *   turns them into plain parameters to train on.
 * State: s [N/2][re, im][H].
 * scan: CHUNKED and BLELLOCH are SSM_ERR_UNSUPPORTED. A single step of Abar is diagonal plus rank one, but the
 *   carry of a chunk, a power of it, is a dense N x N matrix for every channel. What takes a whole sequence at
 *   once here is SSM_S4_FORM_CONVOLUTION.
 * Source: Gu, Goel & Re 2021, arXiv:2111.00396, theorem 3 and algorithm 1. */
typedef struct ssm_s4_config {
    size_t d_model;    /* H, required */
    size_t d_state;    /* N, default 64, even */
    size_t n_ssm;      /* default d_model, which it must divide */
    size_t l_max;      /* 0: C is plain; else the length that its C~ belongs to */
    ssm_scan scan;     /* AUTO or SEQUENTIAL */
    ssm_real dt_min;   /* default 0.001 */
    ssm_real dt_max;   /* default 0.1 */
    ssm_format format; /* of output_linear in the bound block */
    ssm_s4_form form;
    int bidirectional;
    ssm_s4_activation activation;
    ssm_s4_output output;
    int pre_norm;
    int residual;
    ssm_real norm_eps; /* default 1e-5 */
} ssm_s4_config;

typedef struct ssm_s4 {
    ssm_s4_config config; /* resolved */
    ssm_s4_core core;
    ssm_bound bound;
} ssm_s4;

SSM_API ssm_status ssm_s4_config_resolve(const ssm_s4_config *config, ssm_s4_config *resolved);
SSM_API ssm_status ssm_s4_params(const ssm_s4_config *config, const char *prefix, ssm_params *table);
SSM_API ssm_status ssm_s4_sizes(const ssm_s4_config *config, const ssm_seqs *seqs, ssm_sizes *need);
SSM_API ssm_status ssm_s4_init(const ssm_s4_config *config, ssm_real *params, uint64_t seed);
SSM_API ssm_status ssm_s4_bind(ssm_s4 *layer, const ssm_s4_config *config, const ssm_real *params, void *mem,
                               size_t mem_bytes);
SSM_API ssm_status ssm_s4_attach(ssm_s4 *layer, const ssm_s4_config *config, const void *data, size_t bytes);
SSM_API ssm_status ssm_s4_forward(const ssm_s4 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  const ssm_seqs *seqs, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s4_step(const ssm_s4 *layer, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                               void *work, size_t work_bytes);
SSM_API ssm_status ssm_s4_record(const ssm_s4 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                 const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s4_backward(const ssm_s4 *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                   ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                   size_t tape_bytes, void *work, size_t work_bytes);
/* The convolution kernel K[l] = 2 Re(C . Abar^l Bbar) of a bound layer (real: without the 2), without D.
 *   kernel   out  [direction][H][len]   (one direction unless bidirectional)
 *   dkernel  in   the same; dparams inout [need.params]: gradients are added
 * By the Cauchy product at the 2^k-th roots of unity, 2^k >= len, with Woodbury's identity for the rank-one
 * part: written with half angles (see >>layer-s4), regular at -1, so any length is exact.
 * Errors: as the verbs; bytes of `work`, for both: ssm_s4_kernel_size. */
SSM_API ssm_status ssm_s4_kernel_size(const ssm_s4 *layer, size_t len, size_t *bytes);
SSM_API ssm_status ssm_s4_kernel(const ssm_s4 *layer, ssm_real *kernel, size_t len, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s4_kernel_backward(const ssm_s4 *layer, const ssm_real *dkernel, ssm_real *dparams, size_t len,
                                          void *work, size_t work_bytes);
/* Replaces the C~ in params by the plain C, which trains and runs with l_max = 0.
 *   layer: bound to the same params with l_max > 0. params inout [need.params].
 * Errors: SSM_ERR_NULL, SSM_ERR_CONFIG (l_max 0). */
SSM_API ssm_status ssm_s4_plain_C(const ssm_s4 *layer, ssm_real *params);

/* --- s5: one complex state for all channels -------------------------------------------------
 *
 *   u = RMSNorm(x) if pre_norm, else x
 *   h[t] = Abar h[t-1] + Bbar u[t]     Lambda = Lambda_re + i Lambda_im, step = exp(log_step)
 *   s[t] = k Re(C h[t]) + D u[t]       k = 2; 1 with no_conj_sym
 *   y    = activation(s)  (+ x if residual)
 *
 * Abar and Bbar are diagonal in the P complex states: P = d_state / 2, one of each conjugate pair,
 * or d_state with no_conj_sym. bidirectional: C [h forward | h of the reversed sequence].
 *
 * Parameters (the authors' names, H = d_model): norm.weight [H] if pre_norm, Lambda_re [P],
 *   Lambda_im [P], B [P][H][2], C [H][P][2] (bidirectional: C1 and C2), D [H], log_step [P]
 *   (theirs is [P][1]); out1.weight [H][H], out1.bias [H] for FULL_GLU, out2.weight [H][H] and
 *   out2.bias [H] for every GLU. The weights are [out][in]: Flax's out1/kernel and out2/kernel are
 *   their transposes.
 *   real_state (traceTorch): A_log [N], B [H][N], C [N][H], D [H], log_dt [1]; A = -exp(A_log),
 *   step = exp(log_dt), all real; N = d_state.
 * Initialisation: Lambda, and the basis of B and C, from the eigenvectors of HiPPO-LegS in `blocks`
 *   blocks; B lecun normal, C truncated normal of variance 1 / d_state ("trunc_standard_normal"),
 *   D N(0, 1), step log-uniform in [dt_min, dt_max]. real_state: A = -1 .. -N, the rest N(0, 1).
 * State: h [P][2] (re, im); real_state: [N]. bidirectional has none: state, dstate and step are
 *   SSM_ERR_UNSUPPORTED, and the workspace grows with the longest sequence.
 * ssm_seqs.step_scale multiplies the step of each row; the bits are those of NULL where it is 1, and
 *   a row of factor 0 leaves the state as it is (padding).
 * The tape holds the state before each tile only: backward runs each tile forward again.
 * Source: Smith, Warrington & Linderman 2023, arXiv:2208.04933; S5SSM and SequenceLayer of
 *   lindermanlab/S5 (their norms are Layer- or BatchNorm; GELU is the tanh approximation). Their
 *   (Abar - 1) / Lambda is the phi form here, finite as Lambda -> 0. */
typedef enum ssm_s5_activation { /* g = gelu(s) */
    SSM_S5_HALF_GLU1 = 0,        /* g sigmoid(out2 g), as in the paper */
    SSM_S5_HALF_GLU2,            /* s sigmoid(out2 g) */
    SSM_S5_FULL_GLU,             /* out1 g sigmoid(out2 g) */
    SSM_S5_GELU,                 /* g */
    SSM_S5_NONE                  /* s */
} ssm_s5_activation;

typedef struct ssm_s5_config {
    size_t d_model; /* H, required */
    size_t d_state; /* N, counted in reals as the authors do, default 64; a multiple of blocks, of
                       2 blocks unless no_conj_sym */
    size_t blocks;  /* HiPPO blocks at init, default 1 */
    ssm_disc disc;  /* default ZOH; not TRAPEZOID */
    ssm_scan scan;
    ssm_format format; /* of the matrices in the bound block */
    ssm_s5_activation activation;
    int no_conj_sym;
    int bidirectional;
    int clip_eigs; /* Re Lambda at most -1e-4 */
    int real_state;
    int event;             /* step_scale counts for Abar only, Bbar keeps the step (lrnnx, event mode) */
    int pre_norm;          /* RMSNorm of the input */
    int residual;          /* y += x */
    ssm_real dt_min;       /* default 0.001 */
    ssm_real dt_max;       /* default 0.1 */
    ssm_real step_rescale; /* factor of all steps: 2 for a signal sampled at half the rate; default 1 */
    ssm_real norm_eps;     /* default 1e-5 */
} ssm_s5_config;

typedef struct ssm_s5 {
    ssm_s5_config config; /* resolved */
    ssm_norm norm;
    ssm_linear B; /* real form of B: [P][2] rows, H columns */
    ssm_linear C; /* real form of k Re(C h): H rows, [P][2] columns, twice if bidirectional */
    ssm_linear out1;
    ssm_linear out2;
    const ssm_real *D;
    const ssm_real *lambda; /* [P][2] */
    const ssm_real *step;   /* [P] */
    const ssm_real *a;      /* Abar [P][2]; real_state: [P] */
    const ssm_real *b;      /* Bbar / B, the same */
    const ssm_real *params; /* as given to bind, for backward */
    ssm_bound bound;
} ssm_s5;

/* SSM_PRESET_TRACETORCH: real_state without activation. */
SSM_API void ssm_s5_preset(ssm_s5_config *config, ssm_preset preset);
SSM_API ssm_status ssm_s5_config_resolve(const ssm_s5_config *config, ssm_s5_config *resolved);
SSM_API ssm_status ssm_s5_params(const ssm_s5_config *config, const char *prefix, ssm_params *table);
SSM_API ssm_status ssm_s5_sizes(const ssm_s5_config *config, const ssm_seqs *seqs, ssm_sizes *need);
SSM_API ssm_status ssm_s5_init(const ssm_s5_config *config, ssm_real *params, uint64_t seed);
SSM_API ssm_status ssm_s5_bind(ssm_s5 *layer, const ssm_s5_config *config, const ssm_real *params, void *mem,
                               size_t mem_bytes);
SSM_API ssm_status ssm_s5_attach(ssm_s5 *layer, const ssm_s5_config *config, const void *data, size_t bytes);
SSM_API ssm_status ssm_s5_forward(const ssm_s5 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  const ssm_seqs *seqs, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s5_step(const ssm_s5 *layer, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                               void *work, size_t work_bytes);
SSM_API ssm_status ssm_s5_record(const ssm_s5 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                 const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes);
SSM_API ssm_status ssm_s5_backward(const ssm_s5 *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                   ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                   size_t tape_bytes, void *work, size_t work_bytes);

/*=============================================================================
 * >>api-train
 *===========================================================================*/

/* AdamW with decoupled weight decay; rows marked no_decay are not decayed.
 *
 *   g = grad * min(1, clip_norm / |grad|)       m = beta1 m + (1 - beta1) g
 *   v = beta2 v + (1 - beta2) g^2               p -= lr (mhat / (sqrt(vhat) + eps) + decay p)
 *
 *   table     in     the whole model's rows; the norm is over all of them
 *   params    inout  [table->count]
 *   grads     in     [table->count]
 *   moments   inout  [2][table->count], zero before the first step
 *   step      in     1, 2, 3, ...
 *   grad_norm out    |grad| before clipping, or NULL
 *
 * Groups of parameters with a rate or decay of their own: a call each, with a table that has some of the
 * rows and the whole model's count, over the same arrays. The norm is still that of the whole model.
 *
 * Errors: SSM_ERR_NULL, SSM_ERR_CONFIG (lr, beta, eps or decay out of range, step 0).
 * Source: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2. */
typedef struct ssm_adamw {
    ssm_real lr;           /* no default: 0 moves nothing (the moments still advance) */
    ssm_real beta1;        /* default 0.9 */
    ssm_real beta2;        /* default 0.999 */
    ssm_real eps;          /* default 1e-8 */
    ssm_real weight_decay; /* default 0 */
    ssm_real clip_norm;    /* default 0: no clipping */
} ssm_adamw;

SSM_API ssm_status ssm_adamw_step(const ssm_adamw *adamw, const ssm_params *table, ssm_real *params,
                                  const ssm_real *grads, ssm_real *moments, size_t step, ssm_real *grad_norm);

/* Random numbers: SplitMix64, the same on every machine. Set state to any seed. */
typedef struct ssm_rng {
    uint64_t state;
} ssm_rng;

SSM_API uint64_t ssm_rng_next(ssm_rng *rng);
SSM_API ssm_real ssm_rng_uniform(ssm_rng *rng); /* in (0, 1), 23 bits */
SSM_API ssm_real ssm_rng_normal(ssm_rng *rng);  /* mean 0, deviation 1 (Box-Muller) */

#ifdef __cplusplus
}
#endif

#endif /* SSM_H */

/* ------------------------------------------------------------------------------------------
 * Users stop reading here.
 * ---------------------------------------------------------------------------------------- */

#if defined(SSM_IMPLEMENTATION) && !defined(SSM_IMPLEMENTED)
#define SSM_IMPLEMENTED

/*=============================================================================
 * >>portability
 *=============================================================================
 * Promises to the sections below: fixed-width types, restrict, byte copies, saturating size
 * arithmetic and an arena that counts or carves with the same calls.
 */
#if defined(SSM_MEMCPY) != defined(SSM_MEMSET)
#error "ssm.h: define both SSM_MEMCPY and SSM_MEMSET, or neither"
#endif
#if !defined(SSM_MEMCPY) && !defined(SSM_NO_LIBC)
#include <string.h>
#define SSM_MEMCPY memcpy
#define SSM_MEMSET memset
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SSM__RESTRICT __restrict__
#elif defined(_MSC_VER)
#define SSM__RESTRICT __restrict
#else
#define SSM__RESTRICT
#endif

/* Where a call costs more than the code: the body goes to each caller. */
#if defined(_MSC_VER)
#define SSM__INLINE static __forceinline
#elif defined(__GNUC__) || defined(__clang__)
#define SSM__INLINE static inline __attribute__((always_inline))
#else
#define SSM__INLINE static
#endif

/* Where one frame with everybody's variables would be larger than a call. */
#if defined(_MSC_VER)
#define SSM__NOINLINE static __declspec(noinline)
#elif defined(__GNUC__) || defined(__clang__)
#define SSM__NOINLINE static __attribute__((noinline))
#else
#define SSM__NOINLINE static
#endif

/* Before a loop of fixed length over an array that should live in registers. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8
#define SSM__UNROLL _Pragma("GCC unroll 16")
#elif defined(__clang__)
#define SSM__UNROLL _Pragma("clang loop unroll(full)")
#else
#define SSM__UNROLL
#endif

#if defined(_OPENMP) && !defined(SSM_NO_OPENMP)
#define SSM__OPENMP
#endif

#ifndef SSM_ASSERT
#define SSM_ASSERT(condition) ((void)0)
#endif
#ifndef SSM_ALIGN
#define SSM_ALIGN 64
#endif
#ifndef SSM_TILE_ROWS
#define SSM_TILE_ROWS 64
#endif
#ifndef SSM_LANES
#define SSM_LANES 16
#endif
/* Accumulators of a matrix product, and channels of a scan, at a time: a whole panel where there are vector
 * registers. */
#if defined(__ARM_ARCH_PROFILE)
#define SSM__SMALL_CORE (__ARM_ARCH_PROFILE == 'M')
#elif defined(__riscv) && !defined(__riscv_vector)
#define SSM__SMALL_CORE 1
#else
#define SSM__SMALL_CORE 0
#endif
#if SSM__SMALL_CORE && SSM_LANES % 8 == 0
#define SSM__BLOCK 8
#define SSM__SCAN_LANES 4
#else
#define SSM__BLOCK SSM_LANES
#define SSM__SCAN_LANES SSM_LANES
#endif
#define SSM__CHUNK 64 /* steps between the states that the scan's backward keeps */
#ifdef SSM_ONLY_EULER
#define SSM__DISC(disc, value) ((void)(disc), 0)
#else
#define SSM__DISC(disc, value) ((disc) == (value)) /* of the real discretisations */
#endif
#ifdef SSM_ONLY_REAL
#define SSM__FORMAT(format, value) ((void)(format), 0)
#else
#define SSM__FORMAT(format, value) ((format) == (value))
#endif
#define SSM__SHARE_COST 200000 /* multiplications below which a loop is not shared out: about 50 us */

/* Compile-time checks: a false condition makes an array of negative size. */
typedef char ssm__check_align[(SSM_ALIGN & (SSM_ALIGN - 1)) == 0 && SSM_ALIGN >= sizeof(ssm_real) ? 1 : -1];
typedef char ssm__check_tile[SSM_TILE_ROWS > 0 && SSM_LANES > 0 ? 1 : -1];
typedef char ssm__check_bits[sizeof(float) == 4 && sizeof(double) == 8 ? 1 : -1];

#define SSM__SIZE_MAX ((size_t)-1)
#define SSM__K(x) ((ssm_real)(x)) /* a constant in the precision of the build */
#ifdef __cplusplus
#define SSM__EMPTY \
    {              \
    } /* initialises any struct with zeros */
#else
#define SSM__EMPTY \
    {              \
        0          \
    }
#endif

static void ssm__copy(ssm_real *to, const ssm_real *from, size_t n)
{
#ifdef SSM_MEMCPY
    if (n) SSM_MEMCPY(to, from, n * sizeof *to);
#else
    size_t i;
    for (i = 0; i < n; ++i) to[i] = from[i];
#endif
}

static void ssm__zero(ssm_real *to, size_t n)
{
#ifdef SSM_MEMSET
    if (n) SSM_MEMSET(to, 0, n * sizeof *to);
#else
    size_t i;
    for (i = 0; i < n; ++i) to[i] = 0;
#endif
}

static size_t ssm__min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Sums and products of sizes stick at SSM__SIZE_MAX, so that one test at the end finds overflow. */
static size_t ssm__add(size_t a, size_t b)
{
    return b > SSM__SIZE_MAX - a ? SSM__SIZE_MAX : a + b;
}

static size_t ssm__mul(size_t a, size_t b)
{
    return b != 0 && a > SSM__SIZE_MAX / b ? SSM__SIZE_MAX : a * b;
}

static size_t ssm__ceil_div(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

/* Step from the first element of axis positions: index times stride. */
static ptrdiff_t ssm__step(size_t index, ptrdiff_t stride)
{
    return (ptrdiff_t)index * stride;
}

/* An arena over the caller's block. Without a block (base NULL) it only counts. */
typedef struct ssm__arena {
    unsigned char *base;
    size_t used;
} ssm__arena;

static ssm__arena ssm__arena_open(void *mem)
{
    ssm__arena arena;
    uintptr_t slack = (uintptr_t)mem & (SSM_ALIGN - 1);
    arena.used = 0;
    arena.base = NULL;
    if (mem) arena.base = (unsigned char *)(uintptr_t)mem + (slack ? SSM_ALIGN - slack : 0);
    return arena;
}

/* `count` reals on a boundary of SSM_ALIGN; NULL while counting. */
static ssm_real *ssm__take(ssm__arena *arena, size_t count)
{
    size_t offset = arena->used;
    offset = ssm__mul(ssm__ceil_div(offset, SSM_ALIGN), SSM_ALIGN);
    arena->used = ssm__add(offset, ssm__mul(count, sizeof(ssm_real)));
    return arena->base ? (ssm_real *)(void *)(arena->base + offset) : NULL;
}

/* Bytes to ask the caller for: what was taken, whole lines of SSM_ALIGN, and room to align the start. */
static size_t ssm__arena_bytes(const ssm__arena *arena)
{
    const size_t lines = ssm__ceil_div(arena->used, SSM_ALIGN);
    return lines ? ssm__add(ssm__mul(lines, SSM_ALIGN), SSM_ALIGN - 1) : 0;
}

/* A block that is one array: its bytes as those of an arena, and its start. */
static size_t ssm__block_bytes(size_t count)
{
    ssm__arena arena;
    arena.used = ssm__mul(count, sizeof(ssm_real));
    return ssm__arena_bytes(&arena);
}

static ssm_real *ssm__block_start(void *mem)
{
    return (ssm_real *)(void *)ssm__arena_open(mem).base;
}

/* Runs task(context, 0) .. task(context, tasks - 1); `cost` is about how many multiplications they are
 * in all. Small loops are not worth waking threads for. */
static void ssm__parallel(const ssm_parallel *parallel, size_t tasks, size_t cost,
                          void (*task)(void *context, size_t index), void *context)
{
    const int share = tasks > 1 && cost >= SSM__SHARE_COST;
    size_t i;
    if (share && parallel && parallel->run) {
        parallel->run(parallel->pool, tasks, task, context);
        return;
    }
#ifdef SSM__OPENMP
    if (share) { /* apart from the plain loop: entering a parallel region costs even when one thread runs it */
        int64_t k;
#pragma omp parallel for schedule(dynamic, 1)
        for (k = 0; k < (int64_t)tasks; ++k) task(context, (size_t)k);
        return;
    }
#endif
    for (i = 0; i < tasks; ++i) task(context, i);
}

static ssm_status ssm__check_block(const void *mem, size_t bytes, size_t need)
{
    if (need == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    if (need == 0) return SSM_OK;
    if (!mem) return SSM_ERR_NULL;
    return bytes < need ? SSM_ERR_MEMORY : SSM_OK;
}

SSM_API const char *ssm_status_string(ssm_status status)
{
    switch ((int)status) {
#define SSM__X(name, value, text) \
    case value:                   \
        return text;
        SSM_STATUS_LIST(SSM__X)
#undef SSM__X
    default:
        return "unknown status";
    }
}

SSM_API int ssm_version(void)
{
    return SSM_VERSION;
}

/*=============================================================================
 * >>math
 *=============================================================================
 * Scalar functions without libm, in the precision of the build, and the definition for any faster
 * path. No tables, no branch on the common path, NaN in gives NaN out, no undefined conversion.
 * Bounds in units in the last place, for float and double alike, held by tests/test_math.c:
 *   exp 1.0   exp2 1.2   log 1.0   expm1 1.7   softplus 2.2   sigmoid 2.4   sqrt 0.9
 *   sin, cos for |x| <= 8192: absolute 9.5e-8 in float, 1.8e-16 in double
 *   erf 2.9   gelu: relative 6e-7 (1 + x^2/4) in float, 1.2e-15 of the same in double, for |x| < 6
 */
#ifdef SSM_DOUBLE
typedef uint64_t ssm__bits;
typedef int64_t ssm__sint;
#define SSM__MANTISSA 52
#define SSM__BIAS 1023
#else
typedef uint32_t ssm__bits;
typedef int32_t ssm__sint;
#define SSM__MANTISSA 23
#define SSM__BIAS 127
#endif

/* Reading a union member other than the last one written gives its bits: defined in C99, and by
 * every C++ compiler that the library supports. */
typedef union ssm__pun {
    ssm_real f;
    ssm__bits u;
} ssm__pun;

/* 2^k for a normal result; any other k gives some number, without undefined behaviour. */
static ssm_real ssm__pow2(ssm__sint k)
{
    ssm__pun q;
    q.u = (ssm__bits)(k + SSM__BIAS) << SSM__MANTISSA;
    return q.f;
}

/* Nearest integer to x, |x| < 2^22, from the low bits of x + 1.5 * 2^mantissa. NaN gives anything. */
static ssm__sint ssm__round(ssm_real x)
{
    ssm__pun magic, q;
    magic.u = ((ssm__bits)(SSM__BIAS + SSM__MANTISSA) << SSM__MANTISSA) | ((ssm__bits)1 << (SSM__MANTISSA - 1));
    q.f = x + magic.f;
    return (ssm__sint)(q.u - magic.u);
}

/* 1/k! */
static const ssm_real ssm__inv_factorial[18] = {SSM__K(1.0),
                                                SSM__K(1.0),
                                                SSM__K(0.5),
                                                SSM__K(1.0 / 6),
                                                SSM__K(1.0 / 24),
                                                SSM__K(1.0 / 120),
                                                SSM__K(1.0 / 720),
                                                SSM__K(1.0 / 5040),
                                                SSM__K(1.0 / 40320),
                                                SSM__K(1.0 / 362880),
                                                SSM__K(1.0 / 3628800),
                                                SSM__K(1.0 / 39916800),
                                                SSM__K(1.0 / 479001600),
                                                SSM__K(1.0 / 6227020800.0),
                                                SSM__K(1.0 / 87178291200.0),
                                                SSM__K(1.0 / 1307674368000.0),
                                                SSM__K(1.0 / 20922789888000.0),
                                                SSM__K(1.0 / 355687428096000.0)};

/* exp(x) = 2^k exp(r), x = k ln 2 + r, |r| <= ln 2 / 2, ln 2 in two parts so that k times the first
 * is exact. exp(r) = 1 + r + r^2 q(r); float: q minimax of degree 4, relative error 3.1e-9; double:
 * Taylor to r^13, 4e-18. 2^k in two factors, so that results underflow gradually. */
static ssm_real ssm__exp(ssm_real x)
{
#ifdef SSM_DOUBLE
    const ssm_real lo = -746.0, hi = 710.0, ln2_hi = 6.93147180369123816490e-01, ln2_lo = 1.90821492927058770002e-10;
#else
    const ssm_real lo = -104.0f, hi = 89.0f, ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
#endif
    ssm__sint k, half;
    ssm_real n, r, q;
    x = x > hi ? hi : x; /* written so that NaN stays */
    x = x < lo ? lo : x;
    k = ssm__round(x * SSM__K(1.44269504088896340736));
    n = (ssm_real)k;
    r = x - n * ln2_hi;
    r = r - n * ln2_lo;
#ifdef SSM_DOUBLE
    {
        int i;
        q = ssm__inv_factorial[13];
        for (i = 12; i >= 2; --i) q = q * r + ssm__inv_factorial[i];
    }
#else
    q = 1.381461100e-3f;
    q = q * r + 8.368710035e-3f;
    q = q * r + 4.166838741e-2f;
    q = q * r + 1.666652069e-1f;
    q = q * r + 4.999999345e-1f;
#endif
    q = (q * r) * r + r;
    half = k / 2;
    return (1 + q) * ssm__pow2(half) * ssm__pow2(k - half);
}

/* 2^x = 2^k 2^r, |r| <= 1/2, which is exact: the exponential of the scans, whose argument delta A is a product
 * anyway, so that log2(e) goes into delta. Returns 2^r, by the polynomial of exp; k is in the low bits of
 * *shifted, below those of the number that rounds (see ssm__round). */
SSM__INLINE ssm_real ssm__exp2_reduced(ssm_real x, ssm__bits *shifted)
{
    const ssm_real magic = (ssm_real)((ssm__bits)3 << (SSM__MANTISSA - 1));
    ssm_real r, q;
    ssm__pun k;
    k.f = x + magic;
    *shifted = k.u;
    r = x - (k.f - magic);
#ifdef SSM_DOUBLE
    {
        int i;
        r *= 0.69314718055994530942;
        q = ssm__inv_factorial[13];
        for (i = 12; i >= 1; --i) q = q * r + ssm__inv_factorial[i];
    }
#else
    q = 1.53211522e-4f;
    q = q * r + 1.33901618e-3f;
    q = q * r + 9.61852632e-3f;
    q = q * r + 5.55036225e-2f;
    q = q * r + 2.40226475e-1f;
    q = q * r + 6.93147181e-1f;
#endif
    return q * r + 1;
}

/* |x| below this: 2^x is normal with room for the rounding of k. */
#define SSM__EXP2_NEAR SSM__K(SSM__MANTISSA > 23 ? 1020.5 : 124.5)

/* For |x| < SSM__EXP2_NEAR: k is added to the bits of the exponent. */
SSM__INLINE ssm_real ssm__exp2_near(ssm_real x)
{
    ssm__bits shifted;
    ssm__pun q;
    q.f = ssm__exp2_reduced(x, &shifted);
    q.u += shifted << SSM__MANTISSA;
    return q.f;
}

/* The same for any x. Beyond, a decay is 0 (so that no product of decays lingers among the subnormal
 * numbers) and a growth is infinite. */
static ssm_real ssm__exp2(ssm_real x)
{
    if (x < SSM__EXP2_NEAR && x > -SSM__EXP2_NEAR) return ssm__exp2_near(x);
    return x < 0 ? 0 : x * ssm__pow2(SSM__BIAS); /* NaN stays */
}

/* phi(x) = (exp(x) - 1) / x for |x| < 1/2: sum x^k / (k+1)!, and its derivative
 * phi'(x) = sum (k+1) x^k / (k+2)!. Truncation below 3e-9 (float), 5e-17 (double). */
#ifdef SSM_DOUBLE
#define SSM__PHI_TERMS 14
#else
#define SSM__PHI_TERMS 7
#endif
static ssm_real ssm__phi_small(ssm_real x)
{
    ssm_real p = ssm__inv_factorial[SSM__PHI_TERMS + 1];
    int k;
    for (k = SSM__PHI_TERMS - 1; k >= 0; --k) p = p * x + ssm__inv_factorial[k + 1];
    return p;
}

static ssm_real ssm__phi_derivative_small(ssm_real x)
{
    ssm_real p = (SSM__PHI_TERMS + 1) * ssm__inv_factorial[SSM__PHI_TERMS + 2];
    int k;
    for (k = SSM__PHI_TERMS - 1; k >= 0; --k) p = p * x + (ssm_real)(k + 1) * ssm__inv_factorial[k + 2];
    return p;
}

/* |x| < 1/2; NaN is not. */
static int ssm__is_small(ssm_real x)
{
    return x < SSM__K(0.5) && x > SSM__K(-0.5);
}

/* exp(x) - 1: nothing cancels outside |x| < 1/2. */
static ssm_real ssm__expm1(ssm_real x)
{
    return ssm__is_small(x) ? x * ssm__phi_small(x) : ssm__exp(x) - 1;
}

/* x = 2^e m, sqrt(1/2) <= m < sqrt(2); with s = f/(2+f), f = m - 1, log m = 2 atanh(s) =
 * f - f^2/2 + s (f^2/2 + R), R = 2 s^2 (1/3 + s^2/5 + ...), s^2 < 0.0295. */
static ssm_real ssm__log(ssm_real x)
{
#ifdef SSM_DOUBLE
    const ssm_real ln2_hi = 6.93147180369123816490e-01, ln2_lo = 1.90821492927058770002e-10;
    const ssm__bits sqrt_half = 0x3fe6a09e667f3bcdu;
    const int last = 23;
#else
    const ssm_real ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
    const ssm__bits sqrt_half = 0x3f3504f3u;
    const int last = 11;
#endif
    const ssm__bits one = (ssm__bits)SSM__BIAS << SSM__MANTISSA;
    const ssm_real smallest_normal = ssm__pow2(1 - SSM__BIAS), infinity = ssm__pow2(SSM__BIAS + 1);
    ssm__sint e = 0;
    ssm__pun q;
    ssm_real f, s, z, r = 0, half_square, n;
    int i;
    if (!(x > 0)) return x == 0 ? -infinity : infinity - infinity;
    if (!(x < infinity)) return x;
    if (x < smallest_normal) { /* subnormal */
        x = x * ssm__pow2(SSM__MANTISSA + 2);
        e = -(SSM__MANTISSA + 2);
    }
    q.f = x;
    q.u += one - sqrt_half;
    e += (ssm__sint)(q.u >> SSM__MANTISSA) - SSM__BIAS;
    q.u = (q.u & (((ssm__bits)1 << SSM__MANTISSA) - 1)) + sqrt_half;
    f = q.f - 1;
    s = f / (2 + f);
    z = s * s;
    for (i = last; i >= 3; i -= 2) r = (r + SSM__K(2.0) / (ssm_real)i) * z;
    half_square = SSM__K(0.5) * f * f;
    n = (ssm_real)e;
    return n * ln2_hi - ((half_square - (s * (half_square + r) + n * ln2_lo)) - f);
}

/* log(1 + x), 0 <= x <= 1. Float: x + x^2 q(x), q fitted, relative error 5.1e-9, so that a loop of it has no
 * division. Double: the rounding error of u = 1 + x is put back as c / u. */
static ssm_real ssm__log1p_unit(ssm_real x)
{
#ifdef SSM_DOUBLE
    const ssm_real u = 1 + x;
    return u == 1 ? x : ssm__log(u) + (x - (u - 1)) / u;
#else
    ssm_real q = -3.31843867e-3f;
    q = q * x + 2.02044339e-2f;
    q = q * x - 5.76641639e-2f;
    q = q * x + 1.06805275e-1f;
    q = q * x - 1.53553800e-1f;
    q = q * x + 1.96953950e-1f;
    q = q * x - 2.49585864e-1f;
    q = q * x + 3.33305112e-1f;
    q = q * x - 4.99999328e-1f;
    return x + q * x * x;
#endif
}

/* log(1 + exp(x)) without overflow, exact in both tails (no threshold): max(x, 0) + log(1 + exp(-|x|)). */
static ssm_real ssm__softplus(ssm_real x)
{
    return (x > 0 ? x : 0) + ssm__log1p_unit(ssm__exp(x > 0 ? -x : x));
}

static ssm_real ssm__sigmoid(ssm_real x)
{
    return 1 / (1 + ssm__exp(-x));
}

static ssm_real ssm__silu(ssm_real x)
{
    return x * ssm__sigmoid(x);
}

/* d silu / dx = s (1 + x (1 - s)), s = sigmoid(x). */
static ssm_real ssm__silu_derivative(ssm_real x)
{
    ssm_real s = ssm__sigmoid(x);
    return s * (1 + x * (1 - s));
}

/* GELU by its tanh approximation, x (1 + tanh w) / 2 = x sigmoid(2w), w = sqrt(2/pi) (x + 0.044715 x^3).
 * Source: Hendrycks & Gimpel 2016, arXiv:1606.08415; the default of jax.nn.gelu. */
static ssm_real ssm__gelu_tanh(ssm_real x)
{
    return x * ssm__sigmoid(SSM__K(1.59576912160573071176) * x * (1 + SSM__K(0.044715) * x * x));
}

/* s + x s (1 - s) 2w'; beyond |x| = 32 it is s, which is 0 or 1. */
static ssm_real ssm__gelu_tanh_derivative(ssm_real x)
{
    ssm_real s, slope;
    x = x > 32 ? 32 : x; /* written so that NaN stays */
    x = x < -32 ? -32 : x;
    s = ssm__sigmoid(SSM__K(1.59576912160573071176) * x * (1 + SSM__K(0.044715) * x * x));
    slope = SSM__K(1.59576912160573071176) * (1 + SSM__K(0.134145) * x * x);
    return s + x * s * (1 - s) * slope;
}

/* sin and cos together. x = k pi/2 + r, pi/2 in three parts; Taylor series of r, |r| <= pi/4
 * (truncation below 2e-10 float, 3e-18 double), and the quadrant k. */
static void ssm__sincos(ssm_real x, ssm_real *sine, ssm_real *cosine)
{
#ifdef SSM_DOUBLE
    const ssm_real p1 = 1.57079632673412561417e+00, p2 = 6.07710050630396597660e-11, p3 = 2.02226624879595063154e-21;
    const int last = 17;
#else
    const ssm_real p1 = 1.5703125f, p2 = 4.837512969970703125e-4f, p3 = 7.54978995489188216e-8f;
    const int last = 11;
#endif
    ssm__sint k = ssm__round(x * SSM__K(0.63661977236758134308));
    ssm_real n = (ssm_real)k, r, z, s, c, swap;
    int i;
    r = x - n * p1;
    r = r - n * p2;
    r = r - n * p3;
    z = -r * r;
    s = ssm__inv_factorial[last];
    c = ssm__inv_factorial[last - 1];
    for (i = last - 2; i >= 1; i -= 2) {
        s = s * z + ssm__inv_factorial[i];
        c = c * z + ssm__inv_factorial[i - 1];
    }
    s = s * r;
    if (k & 1) { /* sin(r + pi/2) = cos r, cos(r + pi/2) = -sin r */
        swap = s;
        s = c;
        c = -swap;
    }
    *sine = k & 2 ? -s : s;
    *cosine = k & 2 ? -c : c;
}

/* Square root: Newton's iteration for 1/sqrt(x) from the halved exponent (error below 3.5 %; each pass makes
 * it 1.5 times its square), then one correction of the root. */
static ssm_real ssm__sqrt(ssm_real x)
{
    const ssm_real smallest_normal = ssm__pow2(1 - SSM__BIAS), infinity = ssm__pow2(SSM__BIAS + 1);
    const ssm__bits halved = (ssm__bits)(SSM__MANTISSA > 23 ? 0x5fe6eb50c7b537a9u : 0x5f3759dfu);
    ssm_real scale = 1, r, s;
    ssm__pun q;
    int i;
    if (!(x > 0) || !(x < infinity)) return x < 0 ? infinity - infinity : x;
    if (x < 2 * smallest_normal) { /* half of it is subnormal */
        x = x * ssm__pow2(2 * SSM__MANTISSA);
        scale = ssm__pow2(-SSM__MANTISSA);
    }
    q.f = x;
    q.u = halved - (q.u >> 1);
    r = q.f;
    for (i = 0; i < (SSM__MANTISSA > 23 ? 4 : 3); ++i) r = r * (SSM__K(1.5) - SSM__K(0.5) * x * r * r);
    s = x * r;
    s = s + r * (SSM__K(0.5) * x - SSM__K(0.5) * s * s); /* halves: s * s may be just above the largest number */
    return s * scale;
}

/* erfc(x), x >= 1/2: exp(-x^2) / (1 + 2x) times a polynomial in t = (x - 3)/(x + 3), which interpolates
 * (1 + 2x) exp(x^2) erfc(x) at Chebyshev nodes; relative error 1.3e-8 (float), 3e-18 (double). x^2 is
 * split, x = hi + lo with hi^2 exact, so that exp does not magnify its rounding. */
static ssm_real ssm__erfc_tail(ssm_real x)
{
#ifdef SSM_DOUBLE
    static const ssm_real c[24] = {
        1.2530080582697296526,    -0.1356211061245812048,      -0.047562294353451125689,   0.129645158702764642062,
        -0.11927366341527467649,  0.06830802734382649137,      -0.023770514919729349672,   0.0025293918188247792526,
        0.0018886903755555040123, -0.00077983230144620809851,  -0.00010515993650972460087, 0.00012509955426271117871,
        4.9501735605214486021e-6, -0.000020101508706745830459, -7.3368642606549904213e-7,  3.4754123465335580473e-6,
        3.6111326505816054061e-7, -6.2307024046906426376e-7,   -1.4642108829995568386e-7,  1.1067996426745220593e-7,
        4.4047978751338320693e-8, -2.0302023895006911657e-8,   -7.7638879179309380163e-9,  3.4067993470325632483e-9};
    const int last = 23;
#else
    static const ssm_real c[11] = {1.2530080442f,    -0.13562115446f,    -0.047561081338f, 0.12964612203f,
                                   -0.1192907645f,   0.068306489878f,    -0.023683902523f, 0.0025020174765f,
                                   0.0017049559845f, -0.00066783574104f, 3.626567048e-5f};
    const int last = 10;
#endif
    const ssm_real t = (x - 3) / (x + 3);
    ssm_real p = c[last], lo;
    ssm__pun hi;
    int i;
    if (!(x < 40)) return x != x ? x : 0;
    for (i = last - 1; i >= 0; --i) p = p * t + c[i];
    hi.f = x;
    hi.u &= ~(((ssm__bits)1 << (SSM__MANTISSA / 2 + 1)) - 1);
    lo = x - hi.f;
    return ssm__exp(-hi.f * hi.f) * ssm__exp(-lo * (x + hi.f)) * (p / (1 + 2 * x));
}

/* erf(x): its series for |x| < 1/2, sum (-1)^k x^(2k+1) / (k! (2k+1)) times 2/sqrt(pi), truncated below
 * 3e-9 (float), 1e-18 (double); 1 - erfc beyond. */
static ssm_real ssm__erf(ssm_real x)
{
    const int last = SSM__MANTISSA > 23 ? 13 : 6;
    ssm_real z = x * x, p;
    int k;
    if (!ssm__is_small(x)) return x < 0 ? ssm__erfc_tail(-x) - 1 : 1 - ssm__erfc_tail(x);
    p = ssm__inv_factorial[last] / (ssm_real)(2 * last + 1);
    for (k = last - 1; k >= 0; --k) p = ssm__inv_factorial[k] / (ssm_real)(2 * k + 1) - z * p;
    return SSM__K(1.12837916709551257390) * x * p;
}

/* Phi(x), the normal distribution function: no cancellation in the left tail. */
static ssm_real ssm__normal_cdf(ssm_real x)
{
    const ssm_real z = x * SSM__K(0.70710678118654752440);
    return z < SSM__K(-0.5) ? SSM__K(0.5) * ssm__erfc_tail(-z) : SSM__K(0.5) * (1 + ssm__erf(z));
}

/* x Phi(x), exact GELU, and its derivative Phi(x) + x exp(-x^2/2) / sqrt(2 pi).
 * Source: Hendrycks & Gimpel 2016, arXiv:1606.08415. */
static ssm_real ssm__gelu(ssm_real x)
{
    return x * ssm__normal_cdf(x);
}

static ssm_real ssm__gelu_derivative(ssm_real x)
{
    return ssm__normal_cdf(x) + SSM__K(0.39894228040143267794) * x * ssm__exp(SSM__K(-0.5) * x * x);
}

/* Complex numbers are (re, im) pairs of reals, as in NumPy and PyTorch. */
typedef struct ssm__complex {
    ssm_real re;
    ssm_real im;
} ssm__complex;

static ssm__complex ssm__c(ssm_real re, ssm_real im)
{
    ssm__complex z;
    z.re = re;
    z.im = im;
    return z;
}

static ssm__complex ssm__c_load(const ssm_real *pair)
{
    return ssm__c(pair[0], pair[1]);
}

static void ssm__c_store(ssm_real *pair, ssm__complex z)
{
    pair[0] = z.re;
    pair[1] = z.im;
}

static ssm__complex ssm__c_add(ssm__complex a, ssm__complex b)
{
    return ssm__c(a.re + b.re, a.im + b.im);
}

static ssm__complex ssm__c_sub(ssm__complex a, ssm__complex b)
{
    return ssm__c(a.re - b.re, a.im - b.im);
}

static ssm__complex ssm__c_mul(ssm__complex a, ssm__complex b)
{
    return ssm__c(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);
}

static ssm__complex ssm__c_conj(ssm__complex a)
{
    return ssm__c(a.re, -a.im);
}

static ssm__complex ssm__c_scale(ssm_real s, ssm__complex a)
{
    return ssm__c(s * a.re, s * a.im);
}

/* Re(conj(a) b): how the gradient b of a complex number reaches a real one it depends on through a. */
static ssm_real ssm__c_dot(ssm__complex a, ssm__complex b)
{
    return a.re * b.re + a.im * b.im;
}

/* conj(a) b: how the gradient b of a product reaches one factor, a being the other. */
static ssm__complex ssm__c_mul_conj(ssm__complex a, ssm__complex b)
{
    return ssm__c_mul(ssm__c_conj(a), b);
}

/* Factors of a product w v; also their gradients, from g, that of the product: one step of every adjoint. */
typedef struct ssm__c_factors {
    ssm__complex w;
    ssm__complex v;
} ssm__c_factors;

static ssm__c_factors ssm__c_mul_adjoint(ssm__complex w, ssm__complex v, ssm__complex g)
{
    ssm__c_factors d;
    d.w = ssm__c_mul_conj(v, g);
    d.v = ssm__c_mul_conj(w, g);
    return d;
}

/* 1 / a by Smith's method: no overflow from squaring. */
static ssm__complex ssm__c_inverse(ssm__complex a)
{
    ssm_real ratio, d;
    if ((a.re < 0 ? -a.re : a.re) >= (a.im < 0 ? -a.im : a.im)) {
        ratio = a.im / a.re;
        d = 1 / (a.re + a.im * ratio);
        return ssm__c(d, -ratio * d);
    }
    ratio = a.re / a.im;
    d = 1 / (a.im + a.re * ratio);
    return ssm__c(ratio * d, -d);
}

static ssm__complex ssm__c_exp(ssm__complex a)
{
    ssm_real sine, cosine, r = ssm__exp(a.re);
    ssm__sincos(a.im, &sine, &cosine);
    return ssm__c(r * cosine, r * sine);
}

/* (exp(a) - 1) / a, and its derivative, for |a| < 1/2 as series; 1 and 1/2 at 0. */
static ssm__complex ssm__c_phi_small(ssm__complex a)
{
    ssm__complex p = ssm__c(ssm__inv_factorial[SSM__PHI_TERMS + 1], 0);
    int k;
    for (k = SSM__PHI_TERMS - 1; k >= 0; --k) p = ssm__c_add(ssm__c_mul(p, a), ssm__c(ssm__inv_factorial[k + 1], 0));
    return p;
}

static ssm__complex ssm__c_phi_derivative_small(ssm__complex a)
{
    ssm__complex p = ssm__c((SSM__PHI_TERMS + 1) * ssm__inv_factorial[SSM__PHI_TERMS + 2], 0);
    int k;
    for (k = SSM__PHI_TERMS - 1; k >= 0; --k)
        p = ssm__c_add(ssm__c_mul(p, a), ssm__c((ssm_real)(k + 1) * ssm__inv_factorial[k + 2], 0));
    return p;
}

static int ssm__c_is_small(ssm__complex a)
{
    return a.re * a.re + a.im * a.im < SSM__K(0.25);
}

/* Square root in double in either build, for initialisers: one more Newton step on the root. */
static double ssm__sqrt_double(double x)
{
    double s = (double)ssm__sqrt((ssm_real)x);
    if (!(s > 0)) return s;
    s = 0.5 * (s + x / s);
    return 0.5 * (s + x / s);
}

/*=============================================================================
 * >>hippo
 *=============================================================================
 * The normal part of HiPPO-LegS, diagonalised in double without an eigenvalue solver and without
 * memory. With q_n = sqrt(2n + 1), A = -(lower triangle of q q^T) - diag(n + 1) and P = q / sqrt 2,
 *
 *     A + P P^T = -1/2 I + S,    S[n][k] = -1/2 q_n q_k (n > k),  +1/2 q_n q_k (n < k).
 *
 * Let S v = i w v, scaled so that sum_k q_k v_k = 1, and r_n = 1/2 - sum_{k<n} q_k v_k. Row n says
 * v_n = q_n r_n / (i w + n + 1/2), hence r_{n+1} = r_n (i w - (n + 1/2)) / (i w + (n + 1/2)), and the
 * scaling says r_N = -1/2. So the eigenvalues are where
 *
 *     2 sum_n atan(w / (n + 1/2)) = pi (2j + 1 - N),    j = 0 .. N-1, ascending in w,
 *
 * one root each, the left side being monotonic. Since q . v = 1, the transformed vectors are
 * B = V^H q = 1 / |v|, real and positive, and V^H P = B / sqrt 2.
 * Source: Gu, Goel & Re 2021, arXiv:2111.00396, theorem 1 and appendix C for the decomposition; the
 * closed form above is ours, from the semiseparable structure of S.
 */
typedef struct ssm__hippo {
    size_t n;     /* N */
    double omega; /* w of one eigenvector */
    double norm;  /* |v| */
} ssm__hippo;

/* atan(x), x >= 0, to 2e-8: Abramowitz & Stegun 1964, 4.4.49. Only finds the neighbourhood of a root. */
static double ssm__atan_rough(double x)
{
    static const double a[8] = {-0.3333314528, 0.1999355085, -0.1420889944, 0.1065626393,
                                -0.0752896400, 0.0429096138, -0.0161657367, 0.0028662257};
    const double t = x > 1 ? 1 / x : x, z = t * t;
    double p = 0;
    int i;
    for (i = 7; i >= 0; --i) p = (p + a[i]) * z;
    p = t * (1 + p);
    return x > 1 ? 1.57079632679489661923 - p : p;
}

/* Bisection for w >= 0, then Newton on the phase of prod (i w - a)/(i w + a), which must be -1. */
static double ssm__hippo_root(size_t N, double target)
{
    double lo = 0, hi = (double)N * (double)N, w = 0;
    size_t n;
    int i;
    for (i = 0; i < 40; ++i) {
        double sum = 0;
        w = 0.5 * (lo + hi);
        for (n = 0; n < N; ++n) sum += 2 * ssm__atan_rough(w / ((double)n + 0.5));
        if (sum < target) lo = w;
        else hi = w;
    }
    for (i = 0; i < 4; ++i) {
        double re = -1, im = 0, slope = 0; /* of minus the product */
        for (n = 0; n < N; ++n) {
            const double a = (double)n + 0.5, d = w * w + a * a;
            const double fr = (w * w - a * a) / d, fi = 2 * a * w / d, t = re * fr - im * fi;
            im = re * fi + im * fr;
            re = t;
            slope += 2 * a / d;
        }
        w += im / re / slope;
    }
    return w;
}

/* Eigenvector j of N, ascending; j and N-1-j are conjugates. */
static ssm__hippo ssm__hippo_open(size_t N, size_t j)
{
    ssm__hippo h;
    double sum = 0;
    size_t n;
    const int negative = 2 * j + 1 < N;
    const double k = negative ? (double)N - 1 - 2 * (double)j : 2 * (double)j + 1 - (double)N;
    h.n = N;
    h.omega = k > 0 ? ssm__hippo_root(N, 3.14159265358979323846 * k) : 0;
    if (negative) h.omega = -h.omega;
    for (n = 0; n < N; ++n) { /* |r_n| = 1/2 for all n */
        const double a = (double)n + 0.5;
        sum += 0.25 * (2 * (double)n + 1) / (h.omega * h.omega + a * a);
    }
    h.norm = ssm__sqrt_double(sum);
    return h;
}

/* Walks the unit eigenvector: start with *r = (1/2, 0); each call gives entry n and moves r on. */
static void ssm__hippo_next(const ssm__hippo *h, size_t n, double r[2], double v[2])
{
    const double a = (double)n + 0.5, w = h->omega, d = w * w + a * a;
    const double q = ssm__sqrt_double(2 * (double)n + 1) / (h->norm * d), t = r[0];
    v[0] = q * (r[0] * a + r[1] * w); /* r / (a + i w) */
    v[1] = q * (r[1] * a - r[0] * w);
    r[0] = (t * (w * w - a * a) - r[1] * 2 * a * w) / d; /* r (i w - a) / (i w + a) */
    r[1] = (r[1] * (w * w - a * a) + t * 2 * a * w) / d;
}

/* The scaled memory. A = lower triangle of q q^T + diag(n + 1), so that both products with I -+ hA,
 * h = 1/2k, run along n with one partial sum each. */
SSM_API ssm_status ssm_hippo_update(ssm_real *c, size_t n, size_t k, ssm_real u)
{
    ssm_real h, before = 0, after = 0; /* sums of q c and q c' so far */
    size_t i;
    if (!c) return SSM_ERR_NULL;
    if (n == 0 || k == 0) return SSM_ERR_CONFIG;
    h = SSM__K(0.5) / (ssm_real)k;
    for (i = 0; i < n; ++i) {
        const ssm_real diagonal = h * (ssm_real)(i + 1), q = ssm__sqrt((ssm_real)(2 * i + 1));
        const ssm_real old = c[i], right = old - (diagonal * old + h * q * before) + 2 * h * q * u;
        c[i] = (right - h * q * after) / (1 + diagonal);
        before += q * old;
        after += q * c[i];
    }
    return SSM_OK;
}

SSM_API ssm_status ssm_hippo_recall(const ssm_real *c, size_t n, ssm_real p, ssm_real *u)
{
    const ssm_real x = 2 * p - 1;
    ssm_real sum = 0, legendre = 1, last = 0;
    size_t i;
    if (!c || !u) return SSM_ERR_NULL;
    if (n == 0) return SSM_ERR_CONFIG;
    for (i = 0; i < n; ++i) { /* (i + 1) P[i+1] = (2i + 1) x P[i] - i P[i-1] */
        const ssm_real next = ((ssm_real)(2 * i + 1) * x * legendre - (ssm_real)i * last) / (ssm_real)(i + 1);
        sum += c[i] * ssm__sqrt((ssm_real)(2 * i + 1)) * legendre;
        last = legendre;
        legendre = next;
    }
    *u = sum;
    return SSM_OK;
}

/*=============================================================================
 * >>random
 *=============================================================================
 * SplitMix64 (Steele, Lea & Flood 2014): a counter through a mixing function. The same numbers in
 * every build; only their last bits differ between float and double.
 */
SSM_API uint64_t ssm_rng_next(ssm_rng *rng)
{
    uint64_t z;
    rng->state += 0x9e3779b97f4a7c15u;
    z = rng->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

SSM_API ssm_real ssm_rng_uniform(ssm_rng *rng)
{
    uint32_t bits = (uint32_t)(ssm_rng_next(rng) >> 41); /* 23 bits, so that the half fits a float */
    return ((ssm_real)bits + SSM__K(0.5)) * SSM__K(1.0 / 8388608);
}

SSM_API ssm_real ssm_rng_normal(ssm_rng *rng)
{
    ssm_real radius = ssm__sqrt(-2 * ssm__log(ssm_rng_uniform(rng)));
    ssm_real sine, cosine;
    ssm__sincos(SSM__K(6.28318530717958647693) * ssm_rng_uniform(rng), &sine, &cosine);
    return radius * cosine;
}

/*=============================================================================
 * >>params
 *=============================================================================
 * A layer describes its parameters once, by calling ssm__param for each. The same description
 * gives the public table, the offsets that bind and backward use, and the initialisation.
 */
typedef enum ssm__init {
    SSM__INIT_CONSTANT,    /* a */
    SSM__INIT_UNIFORM,     /* U(-a, a) */
    SSM__INIT_NORMAL,      /* N(0, a^2) */
    SSM__INIT_A_INTEGER,   /* ln(n + 1), n the last index: A = -1, -2, ... (S4D-Real) */
    SSM__INIT_A_INVERSE,   /* ln(1/2 + n/N): A between -1/2 and -3/2 */
    SSM__INIT_DT_BIAS,     /* softplus(value) log-uniform in [a, b], at least c */
    SSM__INIT_LOG_UNIFORM, /* U(ln a, ln b) */
    SSM__INIT_TRUNCATED,   /* N(0, a^2) truncated at two deviations, which are widened to keep a */
    SSM__INIT_HIPPO_IM,    /* eigenvalues of HiPPO-LegS of size a, the first b, repeated */
    SSM__INIT_HIPPO_B,     /* V^H R, R real; V the eigenvectors of the same, in blocks */
    SSM__INIT_HIPPO_C,     /* R V, R complex; components of R as TRUNCATED, 1 / rows of V */
    SSM__INIT_S4_LIN,      /* pi n (S4D-Lin) */
    SSM__INIT_S4_INV,      /* N/pi (N/(1 + 2n) - 1), N = 2 x last extent (S4D-Inv) */
    SSM__INIT_S4_LEGS,     /* imaginary parts of the HiPPO-LegS eigenvalues, descending */
    SSM__INIT_S4_ONE,      /* a real one: (1, 0) in complex rows */
    SSM__INIT_S4_LEGS_B    /* a / |v| of the same, complex: B of HiPPO-LegS, or P with a = sqrt(1/2) */
} ssm__init;

/* Appends one row. Returns its offset; table->row may be NULL when only offsets are wanted. */
static size_t ssm__param(ssm_params *table, const char *prefix, const char *name, size_t rank, size_t d0, size_t d1,
                         size_t d2, ssm__init init, ssm_real a)
{
    size_t offset = table->count, count = ssm__mul(d0, ssm__mul(d1, d2));
    if (table->row && table->rows < table->capacity) {
        ssm_param *row = &table->row[table->rows];
        row->prefix = prefix ? prefix : "";
        row->name = name;
        row->rank = rank;
        row->shape[0] = d0;
        row->shape[1] = d1;
        row->shape[2] = d2;
        row->offset = offset;
        row->count = count;
        row->no_decay = rank < 2 || init == SSM__INIT_A_INTEGER || init == SSM__INIT_HIPPO_B;
        row->init = (int)init;
        row->init_arg[0] = a;
        row->init_arg[1] = 0;
        row->init_arg[2] = 0;
    }
    table->rows = ssm__add(table->rows, 1);
    table->count = ssm__add(offset, count);
    return offset;
}

static size_t ssm__param_vector(ssm_params *table, const char *prefix, const char *name, size_t n, ssm__init init,
                                ssm_real a)
{
    return ssm__param(table, prefix, name, 1, n, 1, 1, init, a);
}

static size_t ssm__param_matrix(ssm_params *table, const char *prefix, const char *name, size_t d0, size_t d1,
                                ssm__init init, ssm_real a)
{
    return ssm__param(table, prefix, name, 2, d0, d1, 1, init, a);
}

/* The row appended last is a weight: it decays, whatever its shape. */
static void ssm__param_decays(ssm_params *table)
{
    if (table->row && table->rows <= table->capacity) table->row[table->rows - 1].no_decay = 0;
}

/* Second and third number of the row appended last. */
static void ssm__param_args(ssm_params *table, ssm_real b, ssm_real c)
{
    if (!table->row || table->rows > table->capacity) return;
    table->row[table->rows - 1].init_arg[1] = b;
    table->row[table->rows - 1].init_arg[2] = c;
}

/* 1/sqrt(fan_in): the bound of a linear layer's usual uniform initialisation (Kaiming, a = sqrt 5). */
static ssm_real ssm__fan_in(size_t fan_in)
{
    return 1 / ssm__sqrt((ssm_real)fan_in);
}

/* After a layer has described itself into `copy` of the caller's table: accept it or say why not. */
static ssm_status ssm__params_commit(ssm_params *table, const ssm_params *copy)
{
    if (copy->count > SSM__SIZE_MAX / sizeof(ssm_real)) return SSM_ERR_OVERFLOW;
    if (copy->rows > copy->capacity || !copy->row) return SSM_ERR_MEMORY;
    *table = *copy;
    return SSM_OK;
}

/* Normal, truncated to two deviations, of variance 1: JAX's truncated_normal in lecun_normal. */
static ssm_real ssm__rng_truncated(ssm_rng *rng)
{
    ssm_real z;
    do z = ssm_rng_normal(rng);
    while (z > 2 || z < -2);
    return z * SSM__K(1 / 0.87962566103423978);
}

/* Imaginary parts of A, and B, of S4D and S4: entry n of row->shape[1] conjugate pairs. */
static ssm_real ssm__init_s4(const ssm_param *row, size_t i)
{
    const double pi = 3.14159265358979323846;
    const int pair = (ssm__init)row->init == SSM__INIT_S4_LEGS_B; /* (re, im) */
    const size_t n = (pair ? i / 2 : i) % row->shape[1], N = 2 * row->shape[1];
    ssm__hippo h;
    if ((ssm__init)row->init == SSM__INIT_S4_LIN) return (ssm_real)(pi * (double)n);
    if ((ssm__init)row->init == SSM__INIT_S4_INV)
        return (ssm_real)((double)N / pi * ((double)N / (1 + 2 * (double)n) - 1));
    if (pair && i % 2) return 0;
    h = ssm__hippo_open(N, n);
    return pair ? row->init_arg[0] * (ssm_real)(1 / h.norm) : (ssm_real)-h.omega;
}

static ssm_real ssm__init_value(const ssm_param *row, size_t i, ssm_rng *rng)
{
    size_t last = row->shape[row->rank - 1];
    ssm_real n = (ssm_real)(i % last), a = row->init_arg[0], b = row->init_arg[1], dt;
    switch ((ssm__init)row->init) {
    case SSM__INIT_UNIFORM:
        return a * (2 * ssm_rng_uniform(rng) - 1);
    case SSM__INIT_NORMAL:
        return a * ssm_rng_normal(rng);
    case SSM__INIT_A_INTEGER:
        return ssm__log(n + 1);
    case SSM__INIT_A_INVERSE:
        return ssm__log(SSM__K(0.5) + n / (ssm_real)last);
    case SSM__INIT_DT_BIAS: /* the inverse of softplus: dt + log(1 - exp(-dt)) */
        dt = ssm__exp(ssm__log(a) + ssm_rng_uniform(rng) * (ssm__log(b) - ssm__log(a)));
        dt = dt < row->init_arg[2] ? row->init_arg[2] : dt;
        return dt + ssm__log(-ssm__expm1(-dt));
    case SSM__INIT_LOG_UNIFORM:
        return ssm__log(a) + ssm_rng_uniform(rng) * (ssm__log(b) - ssm__log(a));
    case SSM__INIT_S4_LIN:
    case SSM__INIT_S4_INV:
    case SSM__INIT_S4_LEGS:
    case SSM__INIT_S4_LEGS_B:
        return ssm__init_s4(row, i);
    case SSM__INIT_S4_ONE:
        return row->rank == 3 && i % 2 ? SSM__K(0.0) : SSM__K(1.0);
    case SSM__INIT_TRUNCATED:
        return a * ssm__rng_truncated(rng);
    case SSM__INIT_HIPPO_IM:
        return (ssm_real)ssm__hippo_open((size_t)a, i % (size_t)b).omega;
    case SSM__INIT_HIPPO_B:
    case SSM__INIT_HIPPO_C: /* ssm__init_hippo */
    case SSM__INIT_CONSTANT:
    default:
        return a;
    }
}

/* Entry `index` of a random matrix that is never stored: each entry has its own stream. */
static ssm_real ssm__init_entry(uint64_t seed, size_t index)
{
    ssm_rng rng;
    rng.state = seed + index;
    rng.state = ssm_rng_next(&rng);
    return ssm__rng_truncated(&rng);
}

/* Column p of V, entry by entry, into the row p of B = V^H R or the column p of C = R V.
 * V is blockdiag of the first `keep` eigenvectors of HiPPO-LegS of size N. */
static void ssm__init_hippo(const ssm_param *row, ssm_real *out, uint64_t seed)
{
    const int is_B = row->init == (int)SSM__INIT_HIPPO_B;
    const size_t N = (size_t)row->init_arg[0], keep = (size_t)row->init_arg[1];
    const size_t P = row->shape[is_B ? 0 : 1], H = row->shape[is_B ? 1 : 0], rows = P / keep * N;
    const ssm_real deviation = ssm__fan_in(rows);
    size_t p, n, h;
    ssm__zero(out, row->count);
    for (p = 0; p < P; ++p) {
        const ssm__hippo column = ssm__hippo_open(N, p % keep);
        double r[2] = {0.5, 0}, v[2];
        for (n = 0; n < N; ++n) {
            const size_t at = p / keep * N + n;
            ssm__complex z;
            ssm__hippo_next(&column, n, r, v);
            z = ssm__c_scale(deviation, ssm__c((ssm_real)v[0], (ssm_real)v[1]));
            for (h = 0; h < H; ++h) {
                ssm_real *to = out + 2 * (is_B ? p * H + h : h * P + p);
                const size_t k = h * rows + at;
                const ssm__complex add =
                    is_B ? ssm__c_scale(ssm__init_entry(seed, k), ssm__c_conj(z))
                         : ssm__c_mul(ssm__c(ssm__init_entry(seed, 2 * k), ssm__init_entry(seed, 2 * k + 1)), z);
                ssm__c_store(to, ssm__c_add(ssm__c_load(to), add));
            }
        }
    }
}

SSM_API ssm_status ssm_params_init(const ssm_params *table, ssm_real *params, uint64_t seed)
{
    size_t r, i;
    if (!table || !table->row || !params) return SSM_ERR_NULL;
    for (r = 0; r < table->rows; ++r) {
        const ssm_param *row = &table->row[r];
        ssm_rng rng;
        rng.state = seed;
        rng.state = ssm_rng_next(&rng) + r; /* one stream for each row */
        rng.state = ssm_rng_next(&rng);
        if (row->init == (int)SSM__INIT_HIPPO_B || row->init == (int)SSM__INIT_HIPPO_C)
            ssm__init_hippo(row, params + row->offset, rng.state);
        else
            for (i = 0; i < row->count; ++i) params[row->offset + i] = ssm__init_value(row, i, &rng);
    }
    return SSM_OK;
}

/* Whether prefix + name == full. */
static int ssm__name_is(const ssm_param *row, const char *full)
{
    const char *p;
    for (p = row->prefix; *p; ++p, ++full)
        if (*p != *full) return 0;
    for (p = row->name; *p; ++p, ++full)
        if (*p != *full) return 0;
    return *full == 0;
}

SSM_API const ssm_param *ssm_params_find(const ssm_params *table, const char *full_name)
{
    size_t r;
    if (!table || !table->row || !full_name) return NULL;
    for (r = 0; r < table->rows; ++r)
        if (ssm__name_is(&table->row[r], full_name)) return &table->row[r];
    return NULL;
}

/*=============================================================================
 * >>discretise
 *=============================================================================
 * Table of ssm_disc in code. h' = a (h + p v) + b w, where w = B u now and v = B u of the step
 * before; p is 0 except for TRAPEZOID. `da` is the step size for a, `db` the one for b.
 */
typedef struct ssm__coef {
    ssm_real a;
    ssm_real b;
    ssm_real p;
} ssm__coef;

#define SSM__LOG2E SSM__K(1.44269504088896340736)

static ssm_real ssm__discretise_a(ssm_disc disc, ssm_real A, ssm_real da)
{
    if (SSM__DISC(disc, SSM_DISC_BILINEAR)) { /* (1 + x/2)/(1 - x/2), one rounding near 1, finite as x -> -inf */
        const ssm_real x = da * A, lowest = SSM__K(-1e20), clamped = x < lowest ? lowest : x;
        return 1 + clamped / (1 - SSM__K(0.5) * clamped);
    }
    return ssm__exp2(da * SSM__LOG2E * A); /* as ssm__scan_block computes it */
}

/* The other coefficients, once a is known. */
static ssm__coef ssm__discretise_rest(ssm_disc disc, ssm_real A, ssm_real da, ssm_real db, ssm_real lambda, ssm_real a)
{
    const ssm_real x = db * A;
    ssm__coef c;
    c.a = a;
    c.b = db;
    c.p = 0;
    if (SSM__DISC(disc, SSM_DISC_ZOH)) {
        c.b = ssm__is_small(x) ? db * ssm__phi_small(x) : ((da == db ? a : ssm__discretise_a(disc, A, db)) - 1) / A;
    } else if (SSM__DISC(disc, SSM_DISC_BILINEAR)) {
        c.b = db / (1 - SSM__K(0.5) * x);
    } else if (SSM__DISC(disc, SSM_DISC_DIRAC)) {
        c.b = 1;
    } else if (SSM__DISC(disc, SSM_DISC_TRAPEZOID)) {
        c.b = lambda * db;
        c.p = (1 - lambda) * db;
    }
    return c;
}

/* Derivatives of a by da and A, of b by db and A. (Those of p and of b by lambda are plain.) */
typedef struct ssm__coef_grad {
    ssm_real a_da;
    ssm_real a_A;
    ssm_real b_db;
    ssm_real b_A;
} ssm__coef_grad;

static ssm__coef_grad ssm__discretise_grad(ssm_disc disc, ssm_real A, ssm_real da, ssm_real db, ssm_real lambda,
                                           ssm__coef c)
{
    ssm__coef_grad g;
    ssm_real x = db * A, s, e;
    g.b_A = 0;
    if (SSM__DISC(disc, SSM_DISC_BILINEAR)) { /* a(x) = (1 + x/2)/(1 - x/2): a' = 1/(1 - x/2)^2 */
        s = 1 / (1 - SSM__K(0.5) * (da * A));
        g.a_da = A * s * s;
        g.a_A = da * s * s;
        s = 1 / (1 - SSM__K(0.5) * x);
        g.b_db = s * s;
        g.b_A = SSM__K(0.5) * (db * s) * (db * s);
        return g;
    }
    g.a_da = A * c.a;
    g.a_A = da * c.a;
    if (SSM__DISC(disc, SSM_DISC_ZOH)) { /* b = (exp(db A) - 1) / A */
        e = da == db ? c.a : ssm__discretise_a(disc, A, db);
        g.b_db = e;
        g.b_A = ssm__is_small(x) ? db * db * ssm__phi_derivative_small(x) : (db * e - c.b) / A;
    } else if (SSM__DISC(disc, SSM_DISC_DIRAC)) {
        g.b_db = 0;
    } else {
        g.b_db = SSM__DISC(disc, SSM_DISC_TRAPEZOID) ? lambda : 1;
    }
    return g;
}

/* The same for complex A, that of S4D, S4 and S5, which have no TRAPEZOID. */
typedef struct ssm__c_coef { /* h' = a h + b w; also the gradients of a and b */
    ssm__complex a;
    ssm__complex b;
} ssm__c_coef;

/* 1 / (1 - delta A / 2); with x = delta A, a = (1 + x/2) / (1 - x/2) = 1 + x / (1 - x/2). */
static ssm__complex ssm__c_bilinear(ssm__complex A, ssm_real delta)
{
    return ssm__c_inverse(ssm__c_sub(ssm__c(1, 0), ssm__c_scale(SSM__K(0.5) * delta, A)));
}

static ssm__c_coef ssm__c_discretise(ssm_disc disc, ssm__complex A, ssm_real da, ssm_real db)
{
    const ssm__complex one = ssm__c(1, 0), x = ssm__c_scale(db, A);
    ssm__complex s;
    ssm__c_coef c;
    c.b = ssm__c(db, 0);
    if (disc == SSM_DISC_BILINEAR) {
        s = ssm__c_bilinear(A, da);
        c.a = ssm__c_add(one, ssm__c_mul(ssm__c_scale(da, A), s));
        c.b = ssm__c_scale(db, da == db ? s : ssm__c_bilinear(A, db));
        return c;
    }
    c.a = ssm__c_exp(ssm__c_scale(da, A));
    if (disc == SSM_DISC_ZOH && ssm__c_is_small(x)) {
        c.b = ssm__c_scale(db, ssm__c_phi_small(x));
    } else if (disc == SSM_DISC_ZOH) { /* b = (exp(db A) - 1) / A */
        s = da == db ? c.a : ssm__c_exp(x);
        c.b = ssm__c_mul(ssm__c_sub(s, one), ssm__c_inverse(A));
    } else if (disc == SSM_DISC_DIRAC) {
        c.b = one;
    }
    return c;
}

/* Gradients of A, da and db. */
typedef struct ssm__c_coef_grad {
    ssm__complex A;
    ssm_real da;
    ssm_real db;
} ssm__c_coef_grad;

/* From `g`, those of the coefficients c. With a(x), x = da A: da/dA = da a', da/dda = A a'. All functions
 * here are holomorphic, so a gradient goes back through the conjugate of the derivative. */
static ssm__c_coef_grad ssm__c_discretise_grad(ssm_disc disc, ssm__complex A, ssm_real da, ssm_real db, ssm__c_coef c,
                                               ssm__c_coef g)
{
    const ssm__complex x = ssm__c_scale(db, A);
    ssm__complex slope = c.a, b_db = ssm__c(0, 0), b_A = ssm__c(0, 0), s;
    ssm__c_coef_grad d;
    if (disc == SSM_DISC_BILINEAR) {
        s = ssm__c_bilinear(A, da);
        slope = ssm__c_mul(s, s);
        if (da != db) s = ssm__c_bilinear(A, db);
        b_db = ssm__c_mul(s, s);
        b_A = ssm__c_scale(SSM__K(0.5) * db * db, b_db);
    } else if (disc == SSM_DISC_ZOH) {
        b_db = da == db ? c.a : ssm__c_exp(x);
        if (ssm__c_is_small(x)) b_A = ssm__c_scale(db * db, ssm__c_phi_derivative_small(x));
        else b_A = ssm__c_mul(ssm__c_sub(ssm__c_scale(db, b_db), c.b), ssm__c_inverse(A));
    } else if (disc == SSM_DISC_EULER) {
        b_db = ssm__c(1, 0);
    }
    d.A = ssm__c_scale(da, ssm__c_mul_conj(slope, g.a));
    d.A = ssm__c_add(d.A, ssm__c_mul_conj(b_A, g.b));
    d.da = ssm__c_dot(ssm__c_mul(A, slope), g.a);
    d.db = ssm__c_dot(b_db, g.b);
    return d;
}

/* Rows of state for each of the d_state states. */
static size_t ssm__state_rows(ssm_disc disc, size_t d_state)
{
    return SSM__DISC(disc, SSM_DISC_TRAPEZOID) ? ssm__mul(2, d_state) : d_state;
}

static int ssm__disc_ok(ssm_disc disc)
{
    return (unsigned)disc <= (unsigned)SSM_DISC_TRAPEZOID;
}

/* SSM_OK if this build has `disc` for the selective scan. */
static ssm_status ssm__disc_check(ssm_disc disc)
{
#ifdef SSM_ONLY_EULER
    return disc == SSM_DISC_EULER ? SSM_OK : SSM_ERR_CONFIG;
#else
    return ssm__disc_ok(disc) ? SSM_OK : SSM_ERR_CONFIG;
#endif
}

static int ssm__scan_ok(ssm_scan scan)
{
    return (unsigned)scan <= (unsigned)SSM_SCAN_CHUNKED;
}

/*=============================================================================
 * >>views
 *=============================================================================
 * How ops address tensors: a view gives the element, a span gives the sequence.
 */
static ssm_in ssm__view(const ssm_real *data, size_t batch, size_t time, size_t chan, size_t state)
{
    ssm_in v;
    v.data = data;
    v.batch = (ptrdiff_t)batch;
    v.time = (ptrdiff_t)time;
    v.chan = (ptrdiff_t)chan;
    v.state = (ptrdiff_t)state;
    return v;
}

SSM_API ssm_in ssm_in_btc(const ssm_real *data, size_t len, size_t chans)
{
    return ssm__view(data, len * chans, chans, 1, 0);
}

SSM_API ssm_in ssm_in_bct(const ssm_real *data, size_t chans, size_t len)
{
    return ssm__view(data, chans * len, 1, len, 0);
}

SSM_API ssm_in ssm_in_btcn(const ssm_real *data, size_t len, size_t chans, size_t states)
{
    return ssm__view(data, len * chans * states, chans * states, states, 1);
}

SSM_API ssm_in ssm_in_bcnt(const ssm_real *data, size_t chans, size_t states, size_t len)
{
    return ssm__view(data, chans * states * len, 1, states * len, len);
}

SSM_API ssm_in ssm_in_bcn(const ssm_real *data, size_t chans, size_t states)
{
    return ssm__view(data, chans * states, 0, states, 1);
}

SSM_API ssm_in ssm_in_cn(const ssm_real *data, size_t states)
{
    return ssm__view(data, 0, 0, states, 1);
}

SSM_API ssm_in ssm_in_nc(const ssm_real *data, size_t chans)
{
    return ssm__view(data, 0, 0, 1, chans);
}

SSM_API ssm_in ssm_in_c(const ssm_real *data)
{
    return ssm__view(data, 0, 0, 1, 0);
}

SSM_API ssm_in ssm_in_pairs(ssm_in view)
{
    view.batch *= 2;
    view.time *= 2;
    view.chan *= 2;
    view.state *= 2;
    return view;
}

SSM_API ssm_out ssm_out_like(ssm_real *data, ssm_in like)
{
    ssm_out v;
    v.data = data;
    v.batch = like.batch;
    v.time = like.time;
    v.chan = like.chan;
    v.state = like.state;
    return v;
}

static ssm_in ssm__as_in(ssm_out out)
{
    ssm_in v;
    v.data = out.data;
    v.batch = out.batch;
    v.time = out.time;
    v.chan = out.chan;
    v.state = out.state;
    return v;
}

/* Element (b, t, c, 0) of a view; NULL if the view is absent. */
static const ssm_real *ssm__at(ssm_in v, size_t b, size_t t, size_t c)
{
    return v.data ? v.data + (ssm__step(b, v.batch) + ssm__step(t, v.time) + ssm__step(c, v.chan)) : NULL;
}

static ssm_real *ssm__at_out(ssm_out v, size_t b, size_t t, size_t c)
{
    return v.data ? v.data + (ssm__step(b, v.batch) + ssm__step(t, v.time) + ssm__step(c, v.chan)) : NULL;
}

/* One sequence of a problem: index for tensors with time (`batch` there, 0 when packed), first
 * row, length. Its states are those of sequence `seq`. */
typedef struct ssm__span {
    size_t seq;
    size_t batch;
    size_t first;
    size_t len;
} ssm__span;

static ssm__span ssm__span_of(const size_t *start, size_t seq, size_t len)
{
    ssm__span s;
    s.seq = seq;
    s.batch = start ? 0 : seq;
    s.first = start ? start[seq] : 0;
    s.len = start ? start[seq + 1] - start[seq] : len;
    return s;
}

static ssm_status ssm__check_start(const size_t *start, size_t batch, size_t len)
{
    size_t b;
    if (!start) return SSM_OK;
    for (b = 0; b < batch; ++b)
        if (start[b] > start[b + 1]) return SSM_ERR_SHAPE;
    return start[batch] > len ? SSM_ERR_SHAPE : SSM_OK;
}

/*=============================================================================
 * >>op-linear
 *=============================================================================
 * Packed weights: panels of SSM_LANES output rows, [panel][in][lane], zeros after the last row; INT8
 * has the scales of the panel's rows in front of each. Every output is one accumulator that runs over
 * `in` in order, in the packed and in the plain product alike; lanes are different outputs, so
 * nothing is ever summed across lanes.
 */
static size_t ssm__panel_bytes(ssm_format format, size_t in)
{
    const size_t weights = ssm__mul(in, SSM_LANES);
    if (SSM__FORMAT(format, SSM_FORMAT_INT8)) /* whole reals, so that the next panel's scales are aligned */
        return ssm__mul(ssm__add(ssm__ceil_div(weights, sizeof(ssm_real)), SSM_LANES), sizeof(ssm_real));
    return ssm__mul(weights, SSM__FORMAT(format, SSM_FORMAT_BF16) ? sizeof(uint16_t) : sizeof(ssm_real));
}

static size_t ssm__packed_bytes(ssm_format format, size_t in, size_t out)
{
    return ssm__mul(ssm__ceil_div(out, SSM_LANES), ssm__panel_bytes(format, in));
}

/* A matrix as its elements: at(matrix, row, column). */
typedef struct ssm__matrix {
    ssm_real (*at)(const struct ssm__matrix *matrix, size_t row, size_t column);
    const void *source;
    size_t columns;
} ssm__matrix;

static ssm_real ssm__matrix_dense(const ssm__matrix *m, size_t row, size_t column)
{
    return ((const ssm_real *)m->source)[row * m->columns + column];
}

static ssm__matrix ssm__matrix_of(const ssm_real *weight, size_t columns)
{
    ssm__matrix m;
    m.at = ssm__matrix_dense;
    m.source = weight;
    m.columns = columns;
    return m;
}

/* Bits of a float, whatever ssm_real is. */
typedef union ssm__float {
    float f;
    uint32_t u;
} ssm__float;

/* The upper half of a float, rounded to nearest even; a NaN stays one. */
static uint16_t ssm__bf16(ssm_real x)
{
    ssm__float q;
    q.f = (float)x;
    if (x != x) return (uint16_t)(q.u >> 16 | 0x40);
    return (uint16_t)((q.u + 0x7fff + (q.u >> 16 & 1)) >> 16);
}

static ssm_real ssm__from_bf16(uint16_t x)
{
    ssm__float q;
    q.u = (uint32_t)x << 16;
    return (ssm_real)q.f;
}

/* x / scale to the nearest integer; scale is max |x| / 127 of its row. NaN gives anything. */
static int8_t ssm__int8(ssm_real x, ssm_real scale)
{
    const ssm_real ratio = scale > 0 ? x / scale : 0;
    return (int8_t)(ratio > 127 ? 127 : ratio < -127 ? -127 : (int)ssm__round(ratio));
}

/* Scale of a row in INT8. A NaN or an infinity makes it one, and with it the whole output. */
static ssm_real ssm__int8_scale(const ssm__matrix *m, size_t row)
{
    ssm_real largest = 0;
    size_t k;
    for (k = 0; k < m->columns; ++k) {
        const ssm_real w = m->at(m, row, k), size = w < 0 ? -w : w;
        if (!(size <= largest)) largest = size;
        if (w != w) return w;
    }
    return largest / 127;
}

static void ssm__pack(const ssm__matrix *m, size_t out, ssm_format format, void *packed)
{
    const size_t bytes = ssm__panel_bytes(format, m->columns);
    ssm_real scale[SSM_LANES];
    size_t o, k, lane, i;
    for (o = 0; o < out; o += SSM_LANES) {
        unsigned char *panel = (unsigned char *)packed + o / SSM_LANES * bytes;
        if (SSM__FORMAT(format, SSM_FORMAT_INT8)) {
            for (lane = 0; lane < SSM_LANES; ++lane) scale[lane] = o + lane < out ? ssm__int8_scale(m, o + lane) : 0;
            ssm__copy((ssm_real *)(void *)panel, scale, SSM_LANES);
            panel += sizeof scale;
        }
        for (k = 0, i = 0; k < m->columns; ++k) {
            for (lane = 0; lane < SSM_LANES; ++lane, ++i) {
                const ssm_real w = o + lane < out ? m->at(m, o + lane, k) : 0;
                if (SSM__FORMAT(format, SSM_FORMAT_INT8)) ((int8_t *)panel)[i] = ssm__int8(w, scale[lane]);
                else if (SSM__FORMAT(format, SSM_FORMAT_BF16)) ((uint16_t *)(void *)panel)[i] = ssm__bf16(w);
                else ((ssm_real *)(void *)panel)[i] = w;
            }
        }
    }
}

/* One row of x through SSM__BLOCK rows of a panel, in each format: sums[i] = sum_k x[k] w[k][i]. The
 * accumulators stay in registers. */
#define SSM__PANEL(name, type, value)                                                                         \
    static void name(const type *SSM__RESTRICT w, const ssm_real *SSM__RESTRICT x, size_t in, ssm_real *sums) \
    {                                                                                                         \
        ssm_real acc[SSM__BLOCK];                                                                             \
        size_t k, i;                                                                                          \
        SSM__UNROLL for (i = 0; i < SSM__BLOCK; ++i) acc[i] = 0;                                              \
        for (k = 0; k < in; ++k, w += SSM_LANES) {                                                            \
            const ssm_real xk = x[k];                                                                         \
            SSM__UNROLL for (i = 0; i < SSM__BLOCK; ++i) acc[i] += xk * (value);                              \
        }                                                                                                     \
        SSM__UNROLL for (i = 0; i < SSM__BLOCK; ++i) sums[i] = acc[i];                                        \
    }
SSM__PANEL(ssm__panel_real, ssm_real, w[i])
SSM__PANEL(ssm__panel_bf16, uint16_t, ssm__from_bf16(w[i]))
SSM__PANEL(ssm__panel_int8, int8_t, (ssm_real)w[i])
#undef SSM__PANEL

/* The sums of a panel, at least of its first `lanes` rows; INT8 without its scales. */
static void ssm__panel(ssm_format format, const unsigned char *w, const ssm_real *x, size_t in, size_t lanes,
                       ssm_real *sums)
{
    size_t i;
    for (i = 0; i < lanes; i += SSM__BLOCK) {
        if (SSM__FORMAT(format, SSM_FORMAT_INT8)) ssm__panel_int8((const int8_t *)w + i, x, in, sums + i);
        else if (SSM__FORMAT(format, SSM_FORMAT_BF16))
            ssm__panel_bf16((const uint16_t *)(const void *)w + i, x, in, sums + i);
        else ssm__panel_real((const ssm_real *)(const void *)w + i, x, in, sums + i);
    }
}

static ssm_real ssm__dot(const ssm_real *w, const ssm_real *x, size_t n)
{
    ssm_real sum = 0;
    size_t k;
    for (k = 0; k < n; ++k) sum += x[k] * w[k];
    return sum;
}

/* W x + bias of outputs o .. o + SSM_LANES - 1, those that exist; o is the first of a panel. */
static void ssm__linear_panel(const ssm_linear *l, size_t o, const ssm_real *x, ssm_real *sums)
{
    const size_t lanes = ssm__min(SSM_LANES, l->out - o);
    const unsigned char *panel = (const unsigned char *)l->packed + o / SSM_LANES * ssm__panel_bytes(l->format, l->in);
    const ssm_real *scale = NULL;
    size_t lane;
    if (SSM__FORMAT(l->format, SSM_FORMAT_INT8)) {
        scale = (const ssm_real *)(const void *)panel;
        panel += SSM_LANES * sizeof(ssm_real);
    }
    ssm__panel(l->format, panel, x, l->in, lanes, sums);
    for (lane = 0; scale && lane < lanes; ++lane) sums[lane] *= scale[lane];
    for (lane = 0; l->bias && lane < lanes; ++lane) sums[lane] += l->bias[o + lane];
}

/* The same product from the plain weights, in the same order. */
static void ssm__linear_plain(const ssm_linear *l, const ssm_real *x, ptrdiff_t x_row, ssm_real *y, ptrdiff_t y_row,
                              size_t rows)
{
    size_t r, o;
    for (r = 0; r < rows; ++r, x += x_row, y += y_row) {
        for (o = 0; o < l->out; ++o) {
            const ssm_real sum = ssm__dot(l->weight + o * l->in, x, l->in);
            y[o] = l->bias ? sum + l->bias[o] : sum;
        }
    }
}

/* y[r] = add[r] + W x[r] + bias for a range of panels; add may be NULL and may be y. */
typedef struct ssm__linear_job {
    const ssm_linear *l;
    const ssm_real *x;
    ptrdiff_t x_row;
    const ssm_real *add;
    ptrdiff_t add_row;
    ssm_real *y;
    ptrdiff_t y_row;
    size_t rows;
    size_t grain; /* panels of one task */
} ssm__linear_job;

typedef struct ssm__linear_grad_job {
    const ssm_linear *l;
    const ssm_real *x;
    ptrdiff_t x_row;
    size_t rows;
    size_t grain; /* rows or outputs of one task */
    const ssm_real *dy;
    ptrdiff_t dy_row;
    ssm_real *dx;
    ptrdiff_t dx_row;
    ssm_real *dweight;
    ssm_real *dbias;
} ssm__linear_grad_job;

/* Outputs first .. last - 1 of every row; first is that of a panel. */
static void ssm__linear_rows(const ssm__linear_job *j, size_t first, size_t last)
{
    const ssm_linear *l = j->l;
    size_t o, r, lane;
    for (o = first; o < last; o += SSM_LANES) {
        const size_t lanes = ssm__min(SSM_LANES, last - o);
        for (r = 0; r < j->rows; ++r) {
            const ssm_real *add = j->add ? j->add + ssm__step(r, j->add_row) + o : NULL;
            ssm_real *y = j->y + ssm__step(r, j->y_row) + o, sums[SSM_LANES];
            ssm__linear_panel(l, o, j->x + ssm__step(r, j->x_row), sums);
            for (lane = 0; lane < lanes; ++lane) y[lane] = add ? add[lane] + sums[lane] : sums[lane];
        }
    }
}

static void ssm__linear_task(void *context, size_t index)
{
    const ssm__linear_job *j = (const ssm__linear_job *)context;
    const size_t first = index * j->grain * SSM_LANES;
    ssm__linear_rows(j, first, ssm__min(first + j->grain * SSM_LANES, j->l->out));
}

/* Units of a task so that it holds about 2^16 multiplications, from the shape alone. */
static size_t ssm__grain(size_t products_per_unit)
{
    return 65536 / (products_per_unit + 1) + 1;
}

static void ssm__linear(const ssm_parallel *parallel, const ssm_linear *l, const ssm_real *x, ptrdiff_t x_row,
                        const ssm_real *add, ptrdiff_t add_row, ssm_real *y, ptrdiff_t y_row, size_t rows)
{
    ssm__linear_job j;
    j.l = l;
    j.x = x;
    j.x_row = x_row;
    j.add = add;
    j.add_row = add_row;
    j.y = y;
    j.y_row = y_row;
    j.rows = rows;
#ifndef SSM__OPENMP
    if (!parallel) {
        ssm__linear_rows(&j, 0, l->out);
        return;
    }
#endif
    j.grain = ssm__grain(rows * l->in * SSM_LANES);
    ssm__parallel(parallel, ssm__ceil_div(ssm__ceil_div(l->out, SSM_LANES), j.grain), rows * l->in * l->out,
                  ssm__linear_task, &j);
}

static void ssm__axpy(ssm_real *SSM__RESTRICT y, ssm_real a, const ssm_real *SSM__RESTRICT x, size_t n)
{
    size_t i;
    for (i = 0; i < n; ++i) y[i] += a * x[i];
}

/* dx of a range of rows. */
static void ssm__linear_dx_task(void *context, size_t index)
{
    const ssm__linear_grad_job *j = (const ssm__linear_grad_job *)context;
    const size_t first = index * j->grain, last = ssm__min(first + j->grain, j->rows);
    size_t o, r;
    for (r = first; r < last; ++r)
        for (o = 0; o < j->l->out; ++o)
            ssm__axpy(j->dx + ssm__step(r, j->dx_row), j->dy[ssm__step(r, j->dy_row) + (ptrdiff_t)o],
                      j->l->weight + o * j->l->in, j->l->in);
}

/* dweight and dbias of a range of outputs. */
static void ssm__linear_dw_task(void *context, size_t index)
{
    const ssm__linear_grad_job *j = (const ssm__linear_grad_job *)context;
    const size_t first = index * j->grain, last = ssm__min(first + j->grain, j->l->out);
    size_t o, r;
    for (o = first; o < last; ++o) {
        for (r = 0; r < j->rows; ++r) {
            const ssm_real g = j->dy[ssm__step(r, j->dy_row) + (ptrdiff_t)o];
            if (j->dweight) ssm__axpy(j->dweight + o * j->l->in, g, j->x + ssm__step(r, j->x_row), j->l->in);
            if (j->dbias) j->dbias[o] += g;
        }
    }
}

static void ssm__linear_backward(const ssm_parallel *parallel, const ssm_linear *l, const ssm_real *x, ptrdiff_t x_row,
                                 const ssm_real *dy, ptrdiff_t dy_row, ssm_real *dx, ptrdiff_t dx_row,
                                 ssm_real *dweight, ssm_real *dbias, size_t rows)
{
    const size_t cost = rows * l->in * l->out;
    ssm__linear_grad_job j;
    j.l = l;
    j.x = x;
    j.x_row = x_row;
    j.dy = dy;
    j.dy_row = dy_row;
    j.dx = dx;
    j.dx_row = dx_row;
    j.dweight = dweight;
    j.dbias = dbias;
    j.rows = rows;
    j.grain = ssm__grain(l->in * l->out);
    /* rows that share one dx add up in it: one after the other */
    if (dx) ssm__parallel(parallel, ssm__ceil_div(rows, j.grain), dx_row ? cost : 0, ssm__linear_dx_task, &j);
    j.grain = ssm__grain(l->in * rows);
    if (dweight || dbias) ssm__parallel(parallel, ssm__ceil_div(l->out, j.grain), cost, ssm__linear_dw_task, &j);
}

static int ssm__format_ok(ssm_format format)
{
    if (SSM__FORMAT(format, SSM_FORMAT_BF16) || SSM__FORMAT(format, SSM_FORMAT_INT8)) return 1;
    return format == SSM_FORMAT_REAL;
}

static ssm_status ssm__linear_check(const ssm_linear *l)
{
    if (!l) return SSM_ERR_NULL;
    if (l->in == 0 || l->out == 0 || !ssm__format_ok(l->format)) return SSM_ERR_CONFIG;
    if (ssm__packed_bytes(SSM_FORMAT_REAL, l->in, l->out) == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    return SSM_OK;
}

SSM_API ssm_status ssm_linear_pack_size(const ssm_linear *linear, size_t *bytes)
{
    ssm_status status = ssm__linear_check(linear);
    if (status != SSM_OK) return status;
    if (!bytes) return SSM_ERR_NULL;
    *bytes = ssm__packed_bytes(linear->format, linear->in, linear->out);
    return SSM_OK;
}

SSM_API ssm_status ssm_linear_pack(const ssm_linear *linear, void *packed, size_t packed_bytes)
{
    ssm__matrix matrix;
    size_t need = 0;
    ssm_status status = ssm_linear_pack_size(linear, &need);
    if (status != SSM_OK) return status;
    if (!linear->weight || !packed) return SSM_ERR_NULL;
    if (packed_bytes < need) return SSM_ERR_MEMORY;
    matrix = ssm__matrix_of(linear->weight, linear->in);
    ssm__pack(&matrix, linear->out, linear->format, packed);
    return SSM_OK;
}

SSM_API ssm_status ssm_linear_forward(const ssm_linear *linear, const ssm_real *x, ptrdiff_t x_row, ssm_real *y,
                                      ptrdiff_t y_row, size_t rows)
{
    ssm_status status = ssm__linear_check(linear);
    if (status != SSM_OK) return status;
    if (rows == 0) return SSM_OK;
    if (!x || !y || (!linear->weight && !linear->packed)) return SSM_ERR_NULL;
    if (linear->packed) ssm__linear(NULL, linear, x, x_row, NULL, 0, y, y_row, rows);
    else ssm__linear_plain(linear, x, x_row, y, y_row, rows);
    return SSM_OK;
}

SSM_API ssm_status ssm_linear_backward(const ssm_linear *linear, const ssm_real *x, ptrdiff_t x_row, const ssm_real *dy,
                                       ptrdiff_t dy_row, ssm_real *dx, ptrdiff_t dx_row, ssm_real *dweight,
                                       ssm_real *dbias, size_t rows)
{
    ssm_status status = ssm__linear_check(linear);
    if (status != SSM_OK) return status;
    if (rows == 0) return SSM_OK;
    if (!dy || (dx && !linear->weight) || (dweight && !x)) return SSM_ERR_NULL;
    ssm__linear_backward(NULL, linear, x, x_row, dy, dy_row, dx, dx_row, dweight, dbias, rows);
    return SSM_OK;
}

SSM_API ssm_status ssm_linear_params(size_t in, size_t out, int bias, const char *prefix, ssm_params *table)
{
    ssm_params copy;
    if (!table) return SSM_ERR_NULL;
    if (in == 0 || out == 0) return SSM_ERR_CONFIG;
    copy = *table;
    ssm__param_matrix(&copy, prefix, "weight", out, in, SSM__INIT_UNIFORM, ssm__fan_in(in));
    if (bias) ssm__param_vector(&copy, prefix, "bias", out, SSM__INIT_UNIFORM, ssm__fan_in(in));
    return ssm__params_commit(table, &copy);
}

/*=============================================================================
 * >>op-norm
 *=============================================================================
 *   s = 1 / sqrt(mean(x^2) + eps)        y = x s w
 *   dx = s (g - x s^2 mean(g x)),  g = dy w       dw = dy x s
 */
static ssm_real ssm__norm_scale(const ssm_norm *norm, const ssm_real *x)
{
    ssm_real eps = norm->eps > 0 ? norm->eps : SSM__K(1e-5);
    return 1 / ssm__sqrt(ssm__dot(x, x, norm->dim) / (ssm_real)norm->dim + eps);
}

static void ssm__norm(const ssm_norm *norm, const ssm_real *x, ptrdiff_t x_row, ssm_real *y, ptrdiff_t y_row,
                      size_t rows)
{
    size_t r, i;
    for (r = 0; r < rows; ++r, x += x_row, y += y_row) {
        const ssm_real scale = ssm__norm_scale(norm, x);
        for (i = 0; i < norm->dim; ++i) y[i] = x[i] * scale * norm->weight[i];
    }
}

static void ssm__norm_backward(const ssm_norm *norm, const ssm_real *x, ptrdiff_t x_row, const ssm_real *dy,
                               ptrdiff_t dy_row, ssm_real *dx, ptrdiff_t dx_row, ssm_real *dweight, size_t rows)
{
    size_t r, i;
    for (r = 0; r < rows; ++r, x += x_row, dy += dy_row) {
        const ssm_real scale = ssm__norm_scale(norm, x);
        ssm_real mean = 0;
        for (i = 0; i < norm->dim; ++i) mean += dy[i] * norm->weight[i] * x[i];
        mean = mean / (ssm_real)norm->dim * scale * scale;
        for (i = 0; dx && i < norm->dim; ++i)
            dx[ssm__step(r, dx_row) + (ptrdiff_t)i] += scale * (dy[i] * norm->weight[i] - x[i] * mean);
        for (i = 0; dweight && i < norm->dim; ++i) dweight[i] += dy[i] * x[i] * scale;
    }
}

static ssm_status ssm__norm_check(const ssm_norm *norm)
{
    if (!norm) return SSM_ERR_NULL;
    if (norm->dim == 0 || !(norm->eps >= 0)) return SSM_ERR_CONFIG;
    return norm->weight ? SSM_OK : SSM_ERR_NULL;
}

SSM_API ssm_status ssm_norm_forward(const ssm_norm *norm, const ssm_real *x, ptrdiff_t x_row, ssm_real *y,
                                    ptrdiff_t y_row, size_t rows)
{
    ssm_status status = ssm__norm_check(norm);
    if (status != SSM_OK || rows == 0) return status;
    if (!x || !y) return SSM_ERR_NULL;
    ssm__norm(norm, x, x_row, y, y_row, rows);
    return SSM_OK;
}

SSM_API ssm_status ssm_norm_backward(const ssm_norm *norm, const ssm_real *x, ptrdiff_t x_row, const ssm_real *dy,
                                     ptrdiff_t dy_row, ssm_real *dx, ptrdiff_t dx_row, ssm_real *dweight, size_t rows)
{
    ssm_status status = ssm__norm_check(norm);
    if (status != SSM_OK || rows == 0) return status;
    if (!x || !dy) return SSM_ERR_NULL;
    ssm__norm_backward(norm, x, x_row, dy, dy_row, dx, dx_row, dweight, rows);
    return SSM_OK;
}

SSM_API ssm_status ssm_norm_params(size_t dim, const char *prefix, ssm_params *table)
{
    ssm_params copy;
    if (!table) return SSM_ERR_NULL;
    if (dim == 0) return SSM_ERR_CONFIG;
    copy = *table;
    ssm__param_vector(&copy, prefix, "weight", dim, SSM__INIT_CONSTANT, 1);
    return ssm__params_commit(table, &copy);
}

/*=============================================================================
 * >>op-conv
 *=============================================================================
 * The input is seen as one line: the width-1 rows of state, then the sequence. Position p of the
 * line meets output t at tap p - t.
 */
/* Input at position p of the line [state | sequence]: 0 before the start if there is no state. */
static ssm_real ssm__conv_input(const ssm_conv *s, const ssm__span *q, size_t c, size_t p)
{
    const size_t history = s->width - 1;
    if (p >= history) return *ssm__at(s->x, q->batch, q->first + p - history, c);
    return s->state.data ? ssm__at(s->state, q->seq, 0, c)[ssm__step(p, s->state.state)] : 0;
}

static ssm_real ssm__conv_sum(const ssm_conv *s, const ssm__span *q, size_t t, size_t c)
{
    const ssm_real *w = ssm__at(s->weight, 0, 0, c);
    ssm_real sum = s->bias.data ? *ssm__at(s->bias, 0, 0, c) : 0;
    size_t k;
    for (k = 0; k < s->width; ++k) sum += w[ssm__step(k, s->weight.state)] * ssm__conv_input(s, q, c, t + k);
    return sum;
}

/* Task: SSM_LANES channels of one sequence. */
static void ssm__conv_task(void *context, size_t index)
{
    const ssm_conv *s = (const ssm_conv *)context;
    const size_t blocks = ssm__ceil_div(s->dim, SSM_LANES), first = index % blocks * SSM_LANES;
    const size_t last = ssm__min(first + SSM_LANES, s->dim);
    const ssm__span q = ssm__span_of(s->start, index / blocks, s->len);
    size_t t, c, i;
    for (t = 0; t < q.len; ++t) {
        for (c = first; c < last; ++c) {
            const ssm_real sum = ssm__conv_sum(s, &q, t, c);
            *ssm__at_out(s->y, q.batch, q.first + t, c) = s->silu ? ssm__silu(sum) : sum;
        }
    }
    for (c = first; s->state_last.data && c < last; ++c) {
        ssm_real *state = ssm__at_out(s->state_last, q.seq, 0, c);
        /* upwards: safe in place, since position q.len + i >= i */
        for (i = 0; i + 1 < s->width; ++i)
            state[ssm__step(i, s->state_last.state)] = ssm__conv_input(s, &q, c, q.len + i);
    }
}

static void ssm__conv(ssm_conv *s)
{
    ssm__parallel(s->parallel, s->batch * ssm__ceil_div(s->dim, SSM_LANES), s->batch * s->len * s->dim * s->width,
                  ssm__conv_task, s);
}

/* Adds g to the gradient of position p of the line. */
static void ssm__conv_input_grad(const ssm_conv *s, const ssm_conv_grad *d, const ssm__span *q, size_t c, size_t p,
                                 ssm_real g)
{
    const size_t history = s->width - 1;
    if (p >= history) {
        if (d->dx.data) *ssm__at_out(d->dx, q->batch, q->first + p - history, c) += g;
    } else if (d->dstate.data) {
        ssm__at_out(d->dstate, q->seq, 0, c)[ssm__step(p, d->dstate.state)] += g;
    }
}

static void ssm__conv_span_backward(const ssm_conv *s, const ssm_conv_grad *d, const ssm__span *q)
{
    size_t t, c, k;
    for (c = 0; c < s->dim; ++c) {
        const ssm_real *w = ssm__at(s->weight, 0, 0, c), *last = ssm__at(d->dstate_last, q->seq, 0, c);
        ssm_real *dw = ssm__at_out(d->dweight, 0, 0, c), *db = ssm__at_out(d->dbias, 0, 0, c);
        for (t = 0; t < q->len; ++t) {
            ssm_real g = *ssm__at(d->dy, q->batch, q->first + t, c);
            if (s->silu) g *= ssm__silu_derivative(ssm__conv_sum(s, q, t, c));
            for (k = 0; k < s->width; ++k) {
                ssm__conv_input_grad(s, d, q, c, t + k, g * w[ssm__step(k, s->weight.state)]);
                if (dw) dw[ssm__step(k, d->dweight.state)] += g * ssm__conv_input(s, q, c, t + k);
            }
            if (db) *db += g;
        }
        for (k = 0; last && k + 1 < s->width; ++k)
            ssm__conv_input_grad(s, d, q, c, q->len + k, last[ssm__step(k, d->dstate_last.state)]);
    }
}

static void ssm__conv_backward(const ssm_conv *s, const ssm_conv_grad *d)
{
    size_t b;
    for (b = 0; b < s->batch; ++b) {
        ssm__span q = ssm__span_of(s->start, b, s->len);
        ssm__conv_span_backward(s, d, &q);
    }
}

/* Everything but the output, which backward does not need. */
static ssm_status ssm__conv_check(const ssm_conv *s)
{
    if (!s) return SSM_ERR_NULL;
    if (s->dim == 0 || s->width == 0) return SSM_ERR_CONFIG;
    if (s->batch && s->len && (!s->x.data || !s->weight.data)) return SSM_ERR_NULL;
    return ssm__check_start(s->start, s->batch, s->len);
}

SSM_API ssm_status ssm_conv_forward(const ssm_conv *s)
{
    ssm_conv problem;
    ssm_status status = ssm__conv_check(s);
    if (status != SSM_OK) return status;
    if (!s->y.data && s->batch && s->len) return SSM_ERR_NULL;
    problem = *s;
    ssm__conv(&problem);
    return SSM_OK;
}

SSM_API ssm_status ssm_conv_step(const ssm_conv *s)
{
    ssm_conv in_place;
    ssm_status status = ssm__conv_check(s);
    if (status != SSM_OK) return status;
    if (!s->y.data || !s->state_last.data) return SSM_ERR_NULL;
    if (s->len != 1 || s->start) return SSM_ERR_SHAPE;
    in_place = *s;
    in_place.state = ssm__as_in(s->state_last);
    ssm__conv(&in_place);
    return SSM_OK;
}

SSM_API ssm_status ssm_conv_backward(const ssm_conv *s, const ssm_conv_grad *grad)
{
    ssm_status status = ssm__conv_check(s);
    if (status != SSM_OK) return status;
    if (!grad || !grad->dy.data) return SSM_ERR_NULL;
    ssm__conv_backward(s, grad);
    return SSM_OK;
}

/*=============================================================================
 * >>op-linear-scan
 *=============================================================================
 * h[t] = a[t] h[t-1] + b[t] over lanes that run side by side through time. A lane is a channel, or a
 * chunk of time of one channel: only its strides differ. Going backwards in time is a matter of
 * strides too, so the kernels know one direction.
 */
SSM_API void ssm_carry_identity(ssm_real *carry, int complex_values)
{
    carry[0] = 1;
    carry[1] = 0;
    if (complex_values) carry[2] = carry[3] = 0;
}

SSM_API void ssm_carry_combine(ssm_real *out, const ssm_real *earlier, const ssm_real *later, int complex_values)
{
    if (complex_values) {
        const ssm_real ar = later[0], ai = later[1], er = earlier[0], ei = earlier[1];
        const ssm_real br = ar * earlier[2] - ai * earlier[3] + later[2];
        const ssm_real bi = ar * earlier[3] + ai * earlier[2] + later[3];
        out[0] = ar * er - ai * ei;
        out[1] = ar * ei + ai * er;
        out[2] = br;
        out[3] = bi;
    } else {
        const ssm_real b = later[0] * earlier[1] + later[1];
        out[0] = later[0] * earlier[0];
        out[1] = b;
    }
}

/* Lanes of one tensor: element (step, lane); data == NULL if absent. */
typedef struct ssm__track {
    const ssm_real *data;
    ptrdiff_t time;
    ptrdiff_t lane;
} ssm__track;

/* `lanes` lanes of `steps` steps: h = a h + b. */
typedef struct ssm__lane_run {
    ssm__track a;
    ssm__track b;
    ssm_real *h; /* output, strides as in h_track; NULL: only the state is wanted */
    ptrdiff_t h_time;
    ptrdiff_t h_lane;
    size_t steps;
    size_t lanes; /* at most SSM_LANES */
    int chunks_as_lanes;
} ssm__lane_run;

/* The kernels run in one of two ways over steps t .. end of lanes from `lane` on: with `product`,
 * reduce (h stays inside, product takes in every a); without, write h. A group of lanes goes through
 * time in registers, so that several chains are in flight. */
static void ssm__real_lane(const ssm__lane_run *r, size_t lane, size_t t, size_t end, ssm_real *state,
                           ssm_real *product)
{
    const ssm_real *a = r->a.data + ssm__step(t, r->a.time) + ssm__step(lane, r->a.lane);
    const ssm_real *b = r->b.data + ssm__step(t, r->b.time) + ssm__step(lane, r->b.lane);
    ssm_real *h = r->h + ssm__step(t, r->h_time) + ssm__step(lane, r->h_lane), s = *state, p;
    if (product) {
        for (p = *product; t < end; ++t, a += r->a.time, b += r->b.time) {
            s = *a * s + *b;
            p = *a * p;
        }
        *product = p;
    } else {
        for (; t < end; ++t, a += r->a.time, b += r->b.time, h += r->h_time) *h = s = *a * s + *b;
    }
    *state = s;
}

static void ssm__real_quad(const ssm__lane_run *r, size_t lane, size_t t, size_t end, ssm_real *state,
                           ssm_real *product)
{
    const ssm_real *a = r->a.data + ssm__step(t, r->a.time) + ssm__step(lane, r->a.lane);
    const ssm_real *b = r->b.data + ssm__step(t, r->b.time) + ssm__step(lane, r->b.lane);
    const ptrdiff_t al = r->a.lane, bl = r->b.lane, hl = r->h_lane;
    ssm_real *h = r->h + ssm__step(t, r->h_time) + ssm__step(lane, r->h_lane);
    ssm_real s0 = state[0], s1 = state[1], s2 = state[2], s3 = state[3], p0, p1, p2, p3;
    if (product) {
        p0 = product[0], p1 = product[1], p2 = product[2], p3 = product[3];
        for (; t < end; ++t, a += r->a.time, b += r->b.time) {
            const ssm_real a0 = a[0], a1 = a[al], a2 = a[2 * al], a3 = a[3 * al];
            s0 = a0 * s0 + b[0], s1 = a1 * s1 + b[bl], s2 = a2 * s2 + b[2 * bl], s3 = a3 * s3 + b[3 * bl];
            p0 = a0 * p0, p1 = a1 * p1, p2 = a2 * p2, p3 = a3 * p3;
        }
        product[0] = p0, product[1] = p1, product[2] = p2, product[3] = p3;
    } else {
        for (; t < end; ++t, a += r->a.time, b += r->b.time, h += r->h_time) {
            s0 = a[0] * s0 + b[0], s1 = a[al] * s1 + b[bl];
            s2 = a[2 * al] * s2 + b[2 * bl], s3 = a[3 * al] * s3 + b[3 * bl];
            h[0] = s0, h[hl] = s1, h[2 * hl] = s2, h[3 * hl] = s3;
        }
    }
    state[0] = s0, state[1] = s1, state[2] = s2, state[3] = s3;
}

static void ssm__complex_lane(const ssm__lane_run *r, size_t lane, size_t t, size_t end, ssm_real *state,
                              ssm_real *product)
{
    const ssm_real *a = r->a.data + ssm__step(t, r->a.time) + ssm__step(lane, r->a.lane);
    const ssm_real *b = r->b.data + ssm__step(t, r->b.time) + ssm__step(lane, r->b.lane);
    ssm_real *h = r->h + ssm__step(t, r->h_time) + ssm__step(lane, r->h_lane);
    ssm__complex s = ssm__c_load(state), p;
    if (product) {
        for (p = ssm__c_load(product); t < end; ++t, a += r->a.time, b += r->b.time) {
            s = ssm__c_add(ssm__c_mul(ssm__c_load(a), s), ssm__c_load(b));
            p = ssm__c_mul(ssm__c_load(a), p);
        }
        ssm__c_store(product, p);
    } else {
        for (; t < end; ++t, a += r->a.time, b += r->b.time, h += r->h_time) {
            s = ssm__c_add(ssm__c_mul(ssm__c_load(a), s), ssm__c_load(b));
            ssm__c_store(h, s);
        }
    }
    ssm__c_store(state, s);
}

/* state[lane] before -> after (pairs if complex); product[lane], if not NULL, asks for a reduction.
 * Channels go through time in pieces, so that all groups of lanes pass over the same rows while they
 * are in the cache; chunks share no rows and run through. Products that have all but vanished become
 * zero: subnormal numbers are a hundred times slower, and rounding would keep them alive. */
static void ssm__lanes_run(const ssm__lane_run *r, int complex_values, ssm_real *state, ssm_real *product)
{
    const size_t piece = product ? 64 : r->chunks_as_lanes ? r->steps : 128;
    const size_t values = r->lanes * (complex_values ? 2 : 1);
    const ssm_real tiny = ssm__pow2(-SSM__BIAS + 27);
    size_t t, end, l;
    SSM_ASSERT(r->lanes <= SSM_LANES);
    for (t = 0; t < r->steps; t = end) {
        end = ssm__min(t + piece, r->steps);
        for (l = 0; complex_values && l < r->lanes; ++l)
            ssm__complex_lane(r, l, t, end, state + 2 * l, product ? product + 2 * l : NULL);
        for (l = 0; !complex_values && l + 4 <= r->lanes; l += 4)
            ssm__real_quad(r, l, t, end, state + l, product ? product + l : NULL);
        for (; !complex_values && l < r->lanes; ++l)
            ssm__real_lane(r, l, t, end, state + l, product ? product + l : NULL);
        for (l = 0; product && l < values; ++l)
            if (product[l] < tiny && product[l] > -tiny) product[l] = 0;
    }
}

/* One sequence of a problem, in the direction it runs, and what its tasks share. */
typedef struct ssm__line_job {
    const ssm_linear_scan *s;
    size_t width; /* reals of a value: 1 or 2 */
    size_t seq;
    size_t len;
    ssm__lane_run all; /* lanes = channels, from the first step taken; steps and lanes not set */
    size_t blocks;     /* of channels */
    size_t chunk;      /* steps of a chunk */
    size_t chunks;
    ssm_real *carry;   /* CHUNKED: [chunks][dim]; BLELLOCH: [len][dim] */
    size_t tree_width; /* BLELLOCH: of the current level */
    size_t tree_first;
} ssm__line_job;

static ssm__track ssm__track_of(ssm_in v, const ssm__span *q, int reverse)
{
    ssm__track k;
    k.data = ssm__at(v, q->batch, q->first + (reverse && q->len ? q->len - 1 : 0), 0);
    k.time = reverse ? -v.time : v.time;
    k.lane = v.chan;
    return k;
}

static void ssm__line_open(ssm__line_job *j, const ssm_linear_scan *s, size_t seq)
{
    const ssm__span q = ssm__span_of(s->start, seq, s->len);
    const ssm__track h = ssm__track_of(ssm__as_in(s->h), &q, s->reverse);
    j->s = s;
    j->seq = seq;
    j->len = q.len;
    j->all.a = ssm__track_of(s->a, &q, s->reverse);
    j->all.b = ssm__track_of(s->b, &q, s->reverse);
    j->all.h = ssm__at_out(s->h, q.batch, q.first + (s->reverse && q.len ? q.len - 1 : 0), 0);
    j->all.h_time = h.time;
    j->all.h_lane = h.lane;
    j->all.chunks_as_lanes = 0;
}

/* Steps from `step` on of lanes from channel c on; lanes are channels. */
static ssm__lane_run ssm__line_part(const ssm__line_job *j, size_t step, size_t steps, size_t c, size_t lanes)
{
    ssm__lane_run r = j->all;
    r.a.data += ssm__step(step, r.a.time) + ssm__step(c, r.a.lane);
    r.b.data += ssm__step(step, r.b.time) + ssm__step(c, r.b.lane);
    r.h += ssm__step(step, r.h_time) + ssm__step(c, r.h_lane);
    r.steps = steps;
    r.lanes = lanes;
    return r;
}

static void ssm__line_h0(const ssm__line_job *j, size_t c, ssm_real *state)
{
    const ssm_real *h0 = ssm__at(j->s->h0, j->seq, 0, c);
    size_t i;
    for (i = 0; i < j->width; ++i) state[i] = h0 ? h0[i] : 0;
}

static void ssm__line_last(const ssm__line_job *j, size_t c, const ssm_real *state)
{
    ssm_real *last = ssm__at_out(j->s->h_last, j->seq, 0, c);
    if (last) ssm__copy(last, state, j->width);
}

/* --- sequential: a task is a block of channels of one sequence --- */
static void ssm__line_sequential(void *context, size_t index)
{
    const ssm__line_job *job = (const ssm__line_job *)context;
    const size_t c = index % job->blocks * SSM_LANES, lanes = ssm__min(SSM_LANES, job->s->dim - c);
    ssm__line_job j;
    ssm_real state[2 * SSM_LANES];
    ssm__lane_run r;
    size_t l;
    j.width = job->width;
    ssm__line_open(&j, job->s, index / job->blocks);
    for (l = 0; l < lanes; ++l) ssm__line_h0(&j, c + l, state + l * j.width);
    if (j.len) {
        r = ssm__line_part(&j, 0, j.len, c, lanes);
        ssm__lanes_run(&r, j.s->complex_values, state, NULL);
    }
    for (l = 0; l < lanes; ++l) ssm__line_last(&j, c + l, state + l * j.width);
}

/* --- chunked: with few channels a task is a group of chunks side by side, all channels of it, since their
 * values share cache lines; with many, one chunk of SSM_LANES channels. Chunks are equally long but for
 * the last. --- */
#define SSM__LINE_NARROW 8 /* fewer channels than this are few */
/* Reals between the states of a unit's channels, when there are several, and of all of them. */
#define SSM__LINE_APART (2 * ((SSM_LANES + 1) / 2))
#define SSM__LINE_STATES (SSM__LINE_NARROW * SSM__LINE_APART)
#define SSM__LINE_PIECE 256 /* steps of a group that one channel after the other goes over */

static int ssm__line_is_narrow(const ssm__line_job *j)
{
    return j->s->dim < SSM__LINE_NARROW;
}

/* Chunks of a group. */
static size_t ssm__line_group(const ssm__line_job *j)
{
    return j->s->dim == 1 ? SSM_LANES : (SSM_LANES + 1) / 2;
}

static size_t ssm__line_units(const ssm__line_job *j, size_t chunks)
{
    return ssm__line_is_narrow(j) ? ssm__ceil_div(chunks, ssm__line_group(j)) : chunks * j->blocks;
}

/* A unit of work: chunks k .. of channels c .. , as `channels` runs of lanes. */
typedef struct ssm__line_unit {
    size_t k;
    size_t c;
    size_t channels;
    size_t carry;      /* from one lane's carry to the next one's */
    ssm__lane_run run; /* of the first channel */
} ssm__line_unit;

/* Unit `index` of the first `chunks` chunks, all full. */
static ssm__line_unit ssm__line_unit_of(const ssm__line_job *j, size_t index, size_t chunks)
{
    ssm__line_unit u;
    u.c = 0;
    u.channels = 1;
    u.carry = 2 * j->width;
    if (ssm__line_is_narrow(j)) {
        u.carry *= j->s->dim;
        u.k = index * ssm__line_group(j);
        u.channels = j->s->dim;
        u.run = ssm__line_part(j, u.k * j->chunk, j->chunk, 0, ssm__min(ssm__line_group(j), chunks - u.k));
        u.run.a.lane = ssm__step(j->chunk, u.run.a.time);
        u.run.b.lane = ssm__step(j->chunk, u.run.b.time);
        u.run.h_lane = ssm__step(j->chunk, u.run.h_time);
        u.run.chunks_as_lanes = 1;
    } else {
        u.k = index / j->blocks;
        u.c = index % j->blocks * SSM_LANES;
        u.run = ssm__line_part(j, u.k * j->chunk, j->chunk, u.c, ssm__min(SSM_LANES, j->s->dim - u.c));
    }
    return u;
}

/* Runs all channels of a unit over its steps; state, product: [channels][SSM__LINE_APART]. */
static void ssm__line_unit_run(const ssm__line_job *j, const ssm__line_unit *u, ssm_real *state, ssm_real *product)
{
    const size_t piece = u->channels > 1 ? SSM__LINE_PIECE : u->run.steps;
    size_t t, i;
    for (t = 0; t < u->run.steps; t += piece) {
        for (i = 0; i < u->channels; ++i) {
            ssm__lane_run r = u->run;
            r.a.data += ssm__step(t, r.a.time) + ssm__step(i, j->all.a.lane);
            r.b.data += ssm__step(t, r.b.time) + ssm__step(i, j->all.b.lane);
            r.h += ssm__step(t, r.h_time) + ssm__step(i, j->all.h_lane);
            r.steps = ssm__min(piece, u->run.steps - t);
            ssm__lanes_run(&r, j->s->complex_values, state + SSM__LINE_APART * i,
                           product ? product + SSM__LINE_APART * i : NULL);
        }
    }
}

static ssm_real *ssm__line_carry(const ssm__line_job *j, size_t k, size_t c)
{
    return j->carry + (k * j->s->dim + c) * 2 * j->width;
}

static void ssm__line_reduce(void *context, size_t index)
{
    const ssm__line_job *j = (const ssm__line_job *)context;
    const size_t W = j->width;
    ssm_real state[SSM__LINE_STATES], product[SSM__LINE_STATES];
    const ssm__line_unit u = ssm__line_unit_of(j, index, j->chunks - 1);
    size_t i, l;
    ssm__zero(state, SSM__LINE_STATES);
    ssm__zero(product, SSM__LINE_STATES);
    for (i = 0; i < u.channels; ++i)
        for (l = 0; l < u.run.lanes; ++l) product[i * SSM__LINE_APART + l * W] = 1;
    ssm__line_unit_run(j, &u, state, product);
    for (i = 0; i < u.channels; ++i) {
        for (l = 0; l < u.run.lanes; ++l) {
            ssm_real *carry = ssm__line_carry(j, u.k, u.c + i) + l * u.carry;
            ssm__copy(carry, product + i * SSM__LINE_APART + l * W, W);
            ssm__copy(carry + W, state + i * SSM__LINE_APART + l * W, W);
        }
    }
}

/* The b of carry k becomes the state before chunk k. */
static void ssm__line_chain(const ssm__line_job *j, size_t c)
{
    ssm_real state[4], next[4];
    size_t k;
    ssm_carry_identity(state, j->s->complex_values);
    ssm__line_h0(j, c, state + j->width); /* the map that forgets what it is given but for h0 */
    for (k = 0; k < j->chunks; ++k) {
        ssm_real *carry = ssm__line_carry(j, k, c);
        if (k + 1 < j->chunks) ssm_carry_combine(next, state, carry, j->s->complex_values);
        ssm__copy(carry + j->width, state + j->width, j->width);
        ssm__copy(state + j->width, next + j->width, j->width);
    }
}

static void ssm__line_finish(const ssm__line_job *j, const ssm__line_unit *u)
{
    ssm_real state[SSM__LINE_STATES];
    size_t i, l;
    for (i = 0; i < u->channels; ++i)
        for (l = 0; l < u->run.lanes; ++l)
            ssm__copy(state + i * SSM__LINE_APART + l * j->width,
                      ssm__line_carry(j, u->k, u->c + i) + j->width + l * u->carry, j->width);
    ssm__line_unit_run(j, u, state, NULL);
    for (l = 0; u->k + 1 == j->chunks && l < u->run.lanes; ++l) ssm__line_last(j, u->c + l, state + l * j->width);
}

static void ssm__line_apply(void *context, size_t index)
{
    const ssm__line_job *j = (const ssm__line_job *)context;
    const ssm__line_unit u = ssm__line_unit_of(j, index, j->chunks - 1);
    ssm__line_finish(j, &u);
}

/* The last chunk, which may be shorter: lanes are channels. */
static void ssm__line_apply_last(void *context, size_t index)
{
    const ssm__line_job *j = (const ssm__line_job *)context;
    ssm__line_unit u;
    u.k = j->chunks - 1;
    u.c = index * SSM_LANES;
    u.channels = 1;
    u.carry = 2 * j->width;
    u.run = ssm__line_part(j, u.k * j->chunk, j->len - u.k * j->chunk, u.c, ssm__min(SSM_LANES, j->s->dim - u.c));
    ssm__line_finish(j, &u);
}

static void ssm__line_chunked(ssm__line_job *j)
{
    const ssm_linear_scan *s = j->s;
    const size_t cost = j->len * s->dim * 2 * j->width, units = ssm__line_units(j, j->chunks - 1);
    size_t c;
    ssm__parallel(s->parallel, units, cost, ssm__line_reduce, j);
    for (c = 0; c < s->dim; ++c) ssm__line_chain(j, c);
    ssm__parallel(s->parallel, units, cost, ssm__line_apply, j);
    ssm__parallel(s->parallel, j->blocks, cost / j->chunks, ssm__line_apply_last, j);
}

/* --- Blelloch's tree over steps, in place on carries [len][dim]. Up-sweep: node i takes in node
 * i - width, for i = 2 width - 1, 4 width - 1 ..: then it stands for 2 width steps. Down-sweep, from
 * the widest level: node i = 3 width - 1, 5 width - 1 .. takes in the finished prefix i - width. Any
 * length: a node without a partner waits for the down-sweep. About 2 len combinations. --- */
#define SSM__TREE_GRAIN 256 /* nodes of one task */

static void ssm__tree_level(void *context, size_t index)
{
    const ssm__line_job *j = (const ssm__line_job *)context;
    const size_t last = (index + 1) * SSM__TREE_GRAIN;
    size_t node, i, c;
    for (node = index * SSM__TREE_GRAIN; node < last; ++node) {
        i = j->tree_first + node * 2 * j->tree_width;
        if (i >= j->len) return;
        for (c = 0; c < j->s->dim; ++c) {
            ssm_real *later = ssm__line_carry(j, i, c);
            ssm_carry_combine(later, ssm__line_carry(j, i - j->tree_width, c), later, j->s->complex_values);
        }
    }
}

static void ssm__tree_run_level(ssm__line_job *j, size_t width, size_t first)
{
    const size_t nodes = first < j->len ? ssm__ceil_div(j->len - first, 2 * width) : 0;
    j->tree_width = width;
    j->tree_first = first;
    ssm__parallel(j->s->parallel, ssm__ceil_div(nodes, SSM__TREE_GRAIN), nodes * j->s->dim * 3 * j->width,
                  ssm__tree_level, j);
}

/* Steps index * grain ..: load (a, b) into carries. */
static void ssm__tree_load(void *context, size_t index)
{
    const ssm__line_job *j = (const ssm__line_job *)context;
    const size_t last = ssm__min((index + 1) * SSM__TREE_GRAIN, j->len);
    size_t t, c;
    for (t = index * SSM__TREE_GRAIN; t < last; ++t) {
        for (c = 0; c < j->s->dim; ++c) {
            ssm_real *carry = ssm__line_carry(j, t, c);
            ssm__copy(carry, j->all.a.data + (ssm__step(t, j->all.a.time) + ssm__step(c, j->all.a.lane)), j->width);
            ssm__copy(carry + j->width, j->all.b.data + (ssm__step(t, j->all.b.time) + ssm__step(c, j->all.b.lane)),
                      j->width);
        }
    }
}

/* h[t] = (prefix t) of h0. */
static void ssm__tree_store(void *context, size_t index)
{
    const ssm__line_job *j = (const ssm__line_job *)context;
    const size_t last = ssm__min((index + 1) * SSM__TREE_GRAIN, j->len);
    ssm_real start[4], end[4];
    size_t t, c;
    for (t = index * SSM__TREE_GRAIN; t < last; ++t) {
        for (c = 0; c < j->s->dim; ++c) {
            ssm_carry_identity(start, j->s->complex_values);
            ssm__line_h0(j, c, start + j->width);
            ssm_carry_combine(end, start, ssm__line_carry(j, t, c), j->s->complex_values);
            ssm__copy(j->all.h + (ssm__step(t, j->all.h_time) + ssm__step(c, j->all.h_lane)), end + j->width, j->width);
        }
    }
}

static void ssm__line_tree(ssm__line_job *j)
{
    const size_t pieces = ssm__ceil_div(j->len, SSM__TREE_GRAIN), cost = j->len * j->s->dim * 4;
    size_t width, c;
    ssm__parallel(j->s->parallel, pieces, cost, ssm__tree_load, j);
    for (width = 1; width < j->len; width *= 2) ssm__tree_run_level(j, width, 2 * width - 1);
    for (width /= 2; width >= 1; width /= 2) ssm__tree_run_level(j, width, 3 * width - 1);
    ssm__parallel(j->s->parallel, pieces, cost, ssm__tree_store, j);
    for (c = 0; c < j->s->dim; ++c)
        ssm__line_last(j, c, j->all.h + (ssm__step(j->len - 1, j->all.h_time) + ssm__step(c, j->all.h_lane)));
}

/* --- the op --- */
/* At most 64 chunks, each long enough to be worth its carry. An odd number of 64-byte lines
 * keeps the lanes of a unit out of each other's cache sets. */
#define SSM__LINE_CHUNKS 64
#define SSM__LINE_SHORTEST 80

static size_t ssm__line_chunk(size_t len)
{
    const size_t chunk = (ssm__ceil_div(ssm__ceil_div(len, SSM__LINE_CHUNKS), 16) | 1) * 16;
    return chunk < SSM__LINE_SHORTEST ? SSM__LINE_SHORTEST : chunk;
}

/* At least as many as there are, and never fewer for a longer sequence. */
static size_t ssm__line_most_chunks(size_t len)
{
    return ssm__min(ssm__ceil_div(len, SSM__LINE_SHORTEST), SSM__LINE_CHUNKS);
}

/* From the shape, and from whether there is anything to share work with: never from how many threads
 * there are, which must not change a bit. One channel or two wait for their own additions, and several
 * chunks in flight hide that; more channels hide it themselves, but up to SSM_LANES of them are one task, which
 * only chunks can share out. Measured by bench/scans.c. */
static int ssm__line_is_worth_chunks(const ssm_linear_scan *s)
{
#ifdef SSM__OPENMP
    const int shared = 1;
#else
    const int shared = s->parallel && s->parallel->run;
#endif
    if (s->dim == 1) return s->len >= 1024;
    if (s->dim == 2) return s->len >= 1024;
    return s->dim >= 8 && s->dim <= 16 && s->batch == 1 && s->len >= 100000 && shared;
}

static ssm_scan ssm__line_algorithm(const ssm_linear_scan *s)
{
    ssm_scan scan = s->scan;
    if (scan == SSM_SCAN_AUTO) scan = ssm__line_is_worth_chunks(s) ? SSM_SCAN_CHUNKED : SSM_SCAN_SEQUENTIAL;
    return scan == SSM_SCAN_CHUNKED && s->len <= ssm__line_chunk(s->len) ? SSM_SCAN_SEQUENTIAL : scan;
}

static size_t ssm__line_layout(const ssm_linear_scan *s, void *mem, ssm__line_job *j)
{
    const ssm_scan scan = ssm__line_algorithm(s);
    ssm__arena arena = ssm__arena_open(mem);
    size_t carries = 0;
    j->s = s;
    j->width = s->complex_values ? 2 : 1;
    j->blocks = ssm__ceil_div(s->dim, SSM_LANES);
    j->chunk = ssm__line_chunk(s->len);
    if (scan == SSM_SCAN_CHUNKED) carries = ssm__line_most_chunks(s->len);
    if (scan == SSM_SCAN_BLELLOCH) carries = s->len;
    j->carry = ssm__take(&arena, ssm__mul(carries, ssm__mul(s->dim, 2 * j->width)));
    return ssm__arena_bytes(&arena);
}

static void ssm__linear_scan(const ssm_linear_scan *s, void *work)
{
    const ssm_scan scan = ssm__line_algorithm(s);
    ssm__line_job j;
    size_t b;
    ssm__line_layout(s, work, &j);
    if (scan == SSM_SCAN_SEQUENTIAL) {
        ssm__parallel(s->parallel, s->batch * j.blocks, s->batch * s->len * s->dim * j.width, ssm__line_sequential, &j);
        return;
    }
    for (b = 0; b < s->batch; ++b) {
        ssm__line_open(&j, s, b);
        j.chunks = ssm__ceil_div(j.len, j.chunk);
        if (j.len == 0 || (scan == SSM_SCAN_CHUNKED && j.chunks < 2)) {
            size_t block;
            for (block = 0; block < j.blocks; ++block) ssm__line_sequential(&j, b * j.blocks + block);
        } else if (scan == SSM_SCAN_CHUNKED) {
            ssm__line_chunked(&j);
        } else {
            ssm__line_tree(&j);
        }
    }
}

/* The adjoint, sequential in time: c = conj(a[t]) g[t] is what h[t-1] receives. */
typedef struct ssm__line_adjoint {
    const ssm_linear_scan *s;
    const ssm_linear_scan_grad *d;
} ssm__line_adjoint;

static void ssm__line_adjoint_channel(const ssm__line_adjoint *j, size_t seq, size_t channel)
{
    const ssm_linear_scan *s = j->s;
    const ssm_linear_scan_grad *d = j->d;
    const ssm__span q = ssm__span_of(s->start, seq, s->len);
    const ssm_real *last = ssm__at(d->dh_last, seq, 0, channel), *h0 = ssm__at(s->h0, seq, 0, channel);
    const int pairs = s->complex_values;
    ssm__complex c = ssm__c(last ? last[0] : 0, last && pairs ? last[1] : 0);
    ssm_real *dh0 = ssm__at_out(d->dh0, seq, 0, channel);
    size_t i;
    for (i = q.len; i-- > 0;) { /* i counts steps taken by the forward */
        const size_t t = q.first + (s->reverse ? q.len - 1 - i : i), before = s->reverse ? t + 1 : t - 1;
        const ssm_real *a = ssm__at(s->a, q.batch, t, channel), *dh = ssm__at(d->dh, q.batch, t, channel);
        const ssm_real *h = i > 0 ? ssm__at(ssm__as_in(s->h), q.batch, before, channel) : h0;
        ssm_real *da = ssm__at_out(d->da, q.batch, t, channel), *db = ssm__at_out(d->db, q.batch, t, channel);
        const ssm__complex g = ssm__c(dh[0] + c.re, pairs ? dh[1] + c.im : 0);
        if (pairs) {
            const ssm__complex h_ = h ? ssm__c_load(h) : ssm__c(0, 0);
            const ssm__c_factors ah = ssm__c_mul_adjoint(ssm__c_load(a), h_, g);
            if (da) ssm__c_store(da, ssm__c_add(ssm__c_load(da), ah.w));
            if (db) ssm__c_store(db, ssm__c_add(ssm__c_load(db), g));
            c = ah.v;
        } else {
            if (da && h) *da += g.re * *h;
            if (db) *db += g.re;
            c.re = *a * g.re;
        }
    }
    if (dh0) dh0[0] += c.re;
    if (dh0 && pairs) dh0[1] += c.im;
}

static void ssm__line_adjoint_task(void *context, size_t index)
{
    const ssm__line_adjoint *j = (const ssm__line_adjoint *)context;
    const size_t blocks = ssm__ceil_div(j->s->dim, SSM_LANES), first = index % blocks * SSM_LANES;
    size_t c;
    for (c = first; c < ssm__min(first + SSM_LANES, j->s->dim); ++c) ssm__line_adjoint_channel(j, index / blocks, c);
}

/* Whether channels or sequences of a gradient share memory, so that they must not run side by side;
 * `apart` is the stride that keeps sequences apart. */
static int ssm__is_shared(ssm_out v, const ssm_linear_scan *s, ptrdiff_t apart)
{
    return v.data && ((v.chan == 0 && s->dim > 1) || (apart == 0 && s->batch > 1));
}

static ssm_status ssm__linear_scan_check(const ssm_linear_scan *s)
{
    if (!s) return SSM_ERR_NULL;
    if (s->dim == 0 || !ssm__scan_ok(s->scan)) return SSM_ERR_CONFIG;
    if (s->batch && s->len && (!s->a.data || !s->b.data || !s->h.data)) return SSM_ERR_NULL;
    return ssm__check_start(s->start, s->batch, s->len);
}

SSM_API ssm_status ssm_linear_scan_sizes(const ssm_linear_scan *s, ssm_sizes *need)
{
    static const ssm_sizes none = SSM__EMPTY;
    ssm__line_job j;
    size_t bytes;
    ssm_status status = ssm__linear_scan_check(s);
    if (status != SSM_OK) return status;
    if (!need) return SSM_ERR_NULL;
    bytes = ssm__line_layout(s, NULL, &j);
    if (bytes == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    *need = none;
    need->work = bytes;
    return SSM_OK;
}

SSM_API ssm_status ssm_linear_scan_forward(const ssm_linear_scan *s, void *work, size_t work_bytes)
{
    ssm__line_job j;
    ssm_status status = ssm__linear_scan_check(s);
    if (status != SSM_OK) return status;
    status = ssm__check_block(work, work_bytes, ssm__line_layout(s, NULL, &j));
    if (status == SSM_OK) ssm__linear_scan(s, work);
    return status;
}

SSM_API ssm_status ssm_linear_scan_backward(const ssm_linear_scan *s, const ssm_linear_scan_grad *grad)
{
    ssm__line_adjoint j;
    size_t cost = 0;
    ssm_status status = ssm__linear_scan_check(s);
    if (status != SSM_OK) return status;
    if (!grad || (!grad->dh.data && s->batch && s->len)) return SSM_ERR_NULL;
    j.s = s;
    j.d = grad;
    if (!ssm__is_shared(grad->da, s, s->start ? grad->da.time : grad->da.batch) &&
        !ssm__is_shared(grad->db, s, s->start ? grad->db.time : grad->db.batch) &&
        !ssm__is_shared(grad->dh0, s, grad->dh0.batch))
        cost = s->batch * s->len * s->dim * 4;
    ssm__parallel(s->parallel, s->batch * ssm__ceil_div(s->dim, SSM_LANES), cost, ssm__line_adjoint_task, &j);
    return SSM_OK;
}

/*=============================================================================
 * >>op-scan
 *=============================================================================
 * The selective scan. Channels are independent; the kernels below run `lanes` neighbouring channels
 * of one sequence through time. Rows of a state are addressed through a stride, so that a state
 * laid out [d_state][channel] is used where it lies.
 */

/* A state of some channels: element (lane, row) is data[lane * chan + row * state]. */
typedef struct ssm__lanes {
    ssm_real *data;
    ptrdiff_t chan;
    ptrdiff_t state;
} ssm__lanes;

/* What is the same for all channels and steps: strides from state to state, and the rule. */
typedef struct ssm__scan_rule {
    size_t d_state;
    ssm_disc disc;
    ptrdiff_t A;
    ptrdiff_t B;
    ptrdiff_t C;
    ptrdiff_t A_chan; /* from channel to channel */
    ssm_real near;    /* |delta| up to which ssm__scan_block may be used; 0: never */
} ssm__scan_rule;

/* Inputs of one (step, channel), read once for all states. */
typedef struct ssm__scan_step {
    ssm_real raw; /* delta + bias, before softplus */
    ssm_real u;
    ssm_real da;
    ssm_real db;
    ssm_real lambda;
    const ssm_real *A;
    const ssm_real *B;
    const ssm_real *C;
} ssm__scan_step;

/* The same for up to SSM__SCAN_LANES neighbouring channels of one group, lane i at A + i A_chan. */
typedef struct ssm__scan_row {
    size_t count;
    const ssm_real *A;
    const ssm_real *B;
    const ssm_real *C;
    ssm_real u[SSM__SCAN_LANES];
    ssm_real da[SSM__SCAN_LANES];
    ssm_real db[SSM__SCAN_LANES];
    ssm_real lambda[SSM__SCAN_LANES];
} ssm__scan_row;

static size_t ssm__groups(size_t groups)
{
    return groups ? groups : 1;
}

static size_t ssm__group_of(const ssm_selective_scan *s, size_t groups, size_t c)
{
    return c / (s->dim / ssm__groups(groups));
}

static ssm__scan_step ssm__scan_load(const ssm_selective_scan *s, const ssm__span *q, size_t t, size_t c)
{
    ssm__scan_step e;
    t += q->first;
    e.u = *ssm__at(s->u, q->batch, t, c);
    e.raw = *ssm__at(s->delta, q->batch, t, c);
    if (s->delta_bias.data) e.raw += *ssm__at(s->delta_bias, 0, 0, c);
    e.db = s->delta_softplus ? ssm__softplus(e.raw) : e.raw;
    e.da = s->delta_A.data ? *ssm__at(s->delta_A, q->batch, t, c) : e.db;
    e.lambda = s->lambda.data ? *ssm__at(s->lambda, q->batch, t, c) : SSM__K(0.5);
    e.A = ssm__at(s->A, 0, 0, c);
    e.B = ssm__at(s->B, q->batch, t, ssm__group_of(s, s->B_groups, c));
    e.C = ssm__at(s->C, q->batch, t, ssm__group_of(s, s->C_groups, c));
    return e;
}

/* One step of SSM__SCAN_LANES channels by Euler, h = 2^(d A) h + e B, d = delta log2(e), e = delta u,
 * sum = sum_n C h: states outside, channels inside, so that all but A and h stays in registers. Only for
 * |d A| < SSM__EXP2_NEAR. The bits are those of ssm__scan_any. */
static void ssm__scan_block(const ssm__scan_rule *rule, const ssm__scan_row *row, ssm_real *SSM__RESTRICT h,
                            ptrdiff_t h_state, ssm_real *sum)
{
    const ssm_real *SSM__RESTRICT A = row->A, *SSM__RESTRICT B = row->B, *SSM__RESTRICT C = row->C;
    ssm_real d[SSM__SCAN_LANES], e[SSM__SCAN_LANES], y[SSM__SCAN_LANES];
    size_t n, i;
    SSM__UNROLL for (i = 0; i < SSM__SCAN_LANES; ++i)
    {
        d[i] = row->da[i] * SSM__LOG2E;
        e[i] = row->db[i] * row->u[i];
        y[i] = 0;
    }
    for (n = rule->d_state; n > 0; --n) {
        const ssm_real Bn = *B, Cn = *C;
        SSM__UNROLL for (i = 0; i < SSM__SCAN_LANES; ++i)
        {
            const ssm_real next = ssm__exp2_near(d[i] * A[i]) * h[i] + e[i] * Bn;
            h[i] = next;
            y[i] += Cn * next;
        }
        A += rule->A;
        B += rule->B;
        C += rule->C;
        h += h_state;
    }
    SSM__UNROLL for (i = 0; i < SSM__SCAN_LANES; ++i) sum[i] = y[i];
}

/* One step of one channel by any rule: h in place; returns sum_n C h. keep_a: the a of every state, or NULL. */
static ssm_real ssm__scan_any(const ssm__scan_rule *rule, const ssm__scan_step *e, ssm_real *h, ptrdiff_t h_state,
                              ssm_real *keep_a)
{
    const ptrdiff_t previous = ssm__step(rule->d_state, h_state); /* from h to B u of the step before */
    ssm_real y = 0;
    size_t n;
    for (n = 0; n < rule->d_state; ++n, h += h_state) {
        const ssm_real A = e->A[ssm__step(n, rule->A)], a = ssm__discretise_a(rule->disc, A, e->da);
        const ssm__coef k = ssm__discretise_rest(rule->disc, A, e->da, e->db, e->lambda, a);
        const ssm_real B = e->B[ssm__step(n, rule->B)];
        if (SSM__DISC(rule->disc, SSM_DISC_TRAPEZOID)) {
            *h = k.a * (*h + k.p * h[previous]) + (k.b * e->u) * B;
            h[previous] = B * e->u;
        } else {
            *h = k.a * *h + (k.b * e->u) * B;
        }
        if (keep_a) keep_a[n] = a;
        y += e->C[ssm__step(n, rule->C)] * *h;
    }
    return y;
}

/* One step of the channels of a row; y[i] = sum_n C h. */
static void ssm__scan_advance(const ssm__scan_rule *rule, const ssm__scan_row *row, ssm__lanes h, ssm_real *y)
{
    int near = h.chan == 1 && row->count == SSM__SCAN_LANES;
    ssm__scan_step e;
    size_t i;
    for (i = 0; i < row->count; ++i) near = near && row->da[i] < rule->near && row->da[i] > -rule->near;
    if (near) {
        ssm__scan_block(rule, row, h.data, h.state, y);
        return;
    }
    e.B = row->B;
    e.C = row->C;
    for (i = 0; i < row->count; ++i, h.data += h.chan) {
        e.u = row->u[i];
        e.da = row->da[i];
        e.db = row->db[i];
        e.lambda = row->lambda[i];
        e.A = row->A + ssm__step(i, rule->A_chan);
        y[i] = ssm__scan_any(rule, &e, h.data, h.state, NULL);
    }
}

/* Largest |delta| of ssm__scan_block for A of `count` values: |delta log2(e) A| < SSM__EXP2_NEAR. */
static ssm_real ssm__scan_near(const ssm_real *A, size_t count, ssm_real near)
{
    size_t i;
    for (i = 0; i < count; ++i, ++A) {
        const ssm_real limit = SSM__EXP2_NEAR / SSM__LOG2E * SSM__K(0.999) / (*A < 0 ? -*A : *A);
        if (!(limit >= near)) near = limit < near ? limit : 0; /* 0 if A is NaN: block could make numbers of its bits */
    }
    return near;
}

static ssm__scan_rule ssm__scan_rule_of(const ssm_selective_scan *s)
{
    ssm__scan_rule rule;
    rule.d_state = s->d_state;
    rule.disc = s->disc;
    rule.A = s->A.state;
    rule.B = s->B.state;
    rule.C = s->C.state;
    rule.A_chan = s->A.chan;
    rule.near = 0;
    return rule;
}

/* Channels c .. c + count - 1, or as many of them as share B and C with c. */
static void ssm__scan_load_row(const ssm_selective_scan *s, const ssm__span *q, size_t t, size_t c, size_t count,
                               ssm__scan_row *row)
{
    size_t i;
    for (i = 0; i < count; ++i) {
        const ssm__scan_step e = ssm__scan_load(s, q, t, c + i);
        if (i == 0) {
            row->A = e.A;
            row->B = e.B;
            row->C = e.C;
        } else if (e.B != row->B || e.C != row->C) {
            break;
        }
        row->u[i] = e.u;
        row->da[i] = e.da;
        row->db[i] = e.db;
        row->lambda[i] = e.lambda;
    }
    row->count = i;
}

/* Channels c .. c + lanes - 1 of one sequence, h in place. */
static void ssm__scan_lanes(const ssm_selective_scan *s, const ssm__span *q, size_t c, size_t lanes, ssm__lanes h)
{
    ssm__scan_rule rule = ssm__scan_rule_of(s);
    ssm_real y[SSM__SCAN_LANES];
    ssm__scan_row row;
    size_t t, lane, i;
    if (s->disc == SSM_DISC_EULER && s->A.chan == 1) {
        rule.near = SSM__EXP2_NEAR;
        for (i = 0; i < s->d_state; ++i)
            rule.near = ssm__scan_near(ssm__at(s->A, 0, 0, c) + ssm__step(i, s->A.state), lanes, rule.near);
    }
    for (t = 0; t < q->len; ++t) {
        for (lane = 0; lane < lanes; lane += row.count) {
            ssm__lanes at = h;
            at.data += ssm__step(lane, h.chan);
            ssm__scan_load_row(s, q, t, c + lane, ssm__min(SSM__SCAN_LANES, lanes - lane), &row);
            ssm__scan_advance(&rule, &row, at, y);
            for (i = 0; s->y.data && i < row.count; ++i) { /* else only the state is wanted */
                if (s->D.data) y[i] += *ssm__at(s->D, 0, 0, c + lane + i) * row.u[i];
                if (s->z.data) y[i] *= ssm__silu(*ssm__at(s->z, q->batch, q->first + t, c + lane + i));
                *ssm__at_out(s->y, q->batch, q->first + t, c + lane + i) = y[i];
            }
        }
    }
}

/* h = h0, or zero. In place when they are the same memory. */
static void ssm__scan_load_state(const ssm_selective_scan *s, size_t seq, size_t c, size_t lanes, ssm__lanes h)
{
    const size_t rows = ssm__state_rows(s->disc, s->d_state);
    size_t lane, n;
    for (lane = 0; lane < lanes; ++lane) {
        const ssm_real *from = ssm__at(s->h0, seq, 0, c + lane);
        ssm_real *to = h.data + ssm__step(lane, h.chan);
        if (to == from) continue;
        for (n = 0; n < rows; ++n) to[ssm__step(n, h.state)] = from ? from[ssm__step(n, s->h0.state)] : 0;
    }
}

/* Work is shared out in tasks: blocks of SSM_LANES channels of one sequence. */
typedef struct ssm__scan_job {
    const ssm_selective_scan *s;
    ssm_real *state; /* [batch][rows][dim] if h_last is absent */
    size_t blocks;   /* of channels */
} ssm__scan_job;

static void ssm__scan_task(void *context, size_t index)
{
    const ssm__scan_job *job = (const ssm__scan_job *)context;
    const ssm_selective_scan *s = job->s;
    const size_t b = index / job->blocks, c = index % job->blocks * SSM_LANES;
    const size_t lanes = ssm__min(SSM_LANES, s->dim - c), rows = ssm__state_rows(s->disc, s->d_state);
    const ssm__span q = ssm__span_of(s->start, b, s->len);
    ssm__lanes h;
    h.data = s->h_last.data ? ssm__at_out(s->h_last, b, 0, c) : job->state + b * rows * s->dim + c;
    h.chan = s->h_last.data ? s->h_last.chan : 1;
    h.state = s->h_last.data ? s->h_last.state : (ptrdiff_t)s->dim;
    ssm__scan_load_state(s, b, c, lanes, h);
    ssm__scan_lanes(s, &q, c, lanes, h);
}

/* Chunked along time. Chunk k maps its entering state h linearly: h -> P h + local, P the product of
 * its a. For an exponential a, P = exp(A sum delta_A), so only the sum is kept; BILINEAR keeps P.
 * TRAPEZOID: the first step alone sees the entering v, so h -> P (h + p1 v) + local.
 *
 *   1. every chunk but the last runs from zero: `state` slot k+1 gets local, `decay` slot k the sum
 *   2. carries: slot 0 gets h0; slot k+1 becomes P slot k + local, one by one or in a tree
 *   3. every chunk runs from slot k and writes its outputs */
typedef struct ssm__chunk_job {
    const ssm_selective_scan *s;
    ssm__span q; /* the sequence */
    size_t chunks;
    size_t blocks;   /* of channels */
    ssm_real *state; /* [chunks][rows][dim] */
    ssm_real *decay; /* [chunks][decay rows][dim]: sum of delta_A, then p1 if TRAPEZOID; or P */
} ssm__chunk_job;

static size_t ssm__decay_rows(const ssm_selective_scan *s)
{
    if (s->disc == SSM_DISC_BILINEAR) return s->d_state;
    return s->disc == SSM_DISC_TRAPEZOID ? 2 : 1;
}

static ssm_real *ssm__chunk_state(const ssm__chunk_job *job, size_t k, size_t c)
{
    return job->state + k * ssm__state_rows(job->s->disc, job->s->d_state) * job->s->dim + c;
}

static ssm_real *ssm__chunk_decay(const ssm__chunk_job *job, size_t k, size_t c)
{
    return job->decay + k * ssm__decay_rows(job->s) * job->s->dim + c;
}

/* a over chunk k of one channel and state. */
static ssm_real ssm__chunk_product(const ssm__chunk_job *job, size_t k, size_t c, size_t n)
{
    const ssm_real *decay = ssm__chunk_decay(job, k, c);
    if (job->s->disc == SSM_DISC_BILINEAR) return decay[n * job->s->dim];
    return ssm__discretise_a(job->s->disc, ssm__at(job->s->A, 0, 0, c)[ssm__step(n, job->s->A.state)], *decay);
}

static ssm__span ssm__chunk_span(const ssm__chunk_job *job, size_t k)
{
    ssm__span q = job->q;
    q.first += k * SSM__CHUNK;
    q.len = ssm__min(SSM__CHUNK, job->q.len - k * SSM__CHUNK);
    return q;
}

static void ssm__chunk_measure(const ssm__chunk_job *job, const ssm__span *q, size_t k, size_t c)
{
    const ssm_selective_scan *s = job->s;
    ssm_real *decay = ssm__chunk_decay(job, k, c), sum = 0;
    size_t t, n;
    for (n = 0; s->disc == SSM_DISC_BILINEAR && n < s->d_state; ++n) decay[n * s->dim] = 1;
    for (t = 0; t < q->len; ++t) {
        const ssm__scan_step e = ssm__scan_load(s, q, t, c);
        for (n = 0; s->disc == SSM_DISC_BILINEAR && n < s->d_state; ++n)
            decay[n * s->dim] *= ssm__discretise_a(s->disc, e.A[ssm__step(n, s->A.state)], e.da);
        if (s->disc == SSM_DISC_TRAPEZOID && t == 0) decay[s->dim] = (1 - e.lambda) * e.db;
        sum += e.da;
    }
    if (s->disc != SSM_DISC_BILINEAR) *decay = sum;
}

/* Pass 1: chunk index / blocks, from zero, without outputs. */
static void ssm__chunk_local(void *context, size_t index)
{
    const ssm__chunk_job *job = (const ssm__chunk_job *)context;
    const size_t k = index / job->blocks, c = index % job->blocks * SSM_LANES;
    const size_t lanes = ssm__min(SSM_LANES, job->s->dim - c);
    const ssm__span q = ssm__chunk_span(job, k);
    ssm_selective_scan s = *job->s;
    ssm__lanes h;
    size_t lane;
    s.y.data = NULL;
    s.h0.data = NULL;
    h.data = ssm__chunk_state(job, k + 1, c);
    h.chan = 1;
    h.state = (ptrdiff_t)s.dim;
    ssm__scan_load_state(&s, 0, c, lanes, h);
    ssm__scan_lanes(&s, &q, c, lanes, h);
    for (lane = 0; lane < lanes; ++lane) ssm__chunk_measure(job, &q, k, c + lane);
}

/* Slot k+1 (local after chunk k) takes in slot j, the state or local before chunk k .. : the later
 * map after the earlier one. `decay` of the later is that of chunk k. */
static void ssm__chunk_combine(const ssm__chunk_job *job, size_t j, size_t k, size_t c)
{
    const ssm_selective_scan *s = job->s;
    const size_t N = s->d_state, dim = s->dim;
    const ssm_real *earlier = ssm__chunk_state(job, j, c);
    ssm_real *later = ssm__chunk_state(job, k + 1, c);
    size_t n;
    for (n = 0; n < N; ++n) {
        ssm_real h = earlier[n * dim];
        if (s->disc == SSM_DISC_TRAPEZOID) h += ssm__chunk_decay(job, k, c)[dim] * earlier[(N + n) * dim];
        later[n * dim] += ssm__chunk_product(job, k, c, n) * h;
    }
}

/* The decay of chunk k takes in that of chunk j, before it: products multiply, sums add. */
static void ssm__chunk_combine_decay(const ssm__chunk_job *job, size_t j, size_t k, size_t c)
{
    const ssm_real *earlier = ssm__chunk_decay(job, j, c);
    ssm_real *later = ssm__chunk_decay(job, k, c);
    size_t n;
    if (job->s->disc != SSM_DISC_BILINEAR) *later += *earlier;
    for (n = 0; job->s->disc == SSM_DISC_BILINEAR && n < job->s->d_state; ++n)
        later[n * job->s->dim] *= earlier[n * job->s->dim];
}

/* Pass 2 for channel c. In the tree, node k stands for the chunks up to k of its subtree: up-sweep
 * joins neighbours of growing width, down-sweep hands every prefix to the node after it. */
static void ssm__chunk_carry(void *context, size_t c)
{
    const ssm__chunk_job *job = (const ssm__chunk_job *)context;
    const size_t maps = job->chunks - 1; /* the last chunk carries to nobody */
    ssm__lanes h;
    size_t k, width;
    h.data = ssm__chunk_state(job, 0, c);
    h.chan = 1;
    h.state = (ptrdiff_t)job->s->dim;
    ssm__scan_load_state(job->s, job->q.seq, c, 1, h);
    if (job->s->scan != SSM_SCAN_BLELLOCH || job->s->disc == SSM_DISC_TRAPEZOID) {
        for (k = 0; k < maps; ++k) ssm__chunk_combine(job, k, k, c);
        return;
    }
    for (width = 1; width < maps; width *= 2)
        for (k = 2 * width - 1; k < maps; k += 2 * width) {
            ssm__chunk_combine(job, k - width + 1, k, c);
            ssm__chunk_combine_decay(job, k - width, k, c);
        }
    for (width /= 2; width >= 1; width /= 2)
        for (k = 3 * width - 1; k < maps; k += 2 * width) {
            ssm__chunk_combine(job, k - width + 1, k, c);
            ssm__chunk_combine_decay(job, k - width, k, c);
        }
    for (k = 0; k < maps; ++k) ssm__chunk_combine(job, 0, k, c);
}

/* Pass 3. */
static void ssm__chunk_final(void *context, size_t index)
{
    const ssm__chunk_job *job = (const ssm__chunk_job *)context;
    const ssm_selective_scan *s = job->s;
    const size_t k = index / job->blocks, c = index % job->blocks * SSM_LANES;
    const size_t lanes = ssm__min(SSM_LANES, s->dim - c), rows = ssm__state_rows(s->disc, s->d_state);
    const ssm__span q = ssm__chunk_span(job, k);
    ssm__lanes h;
    size_t lane, n;
    h.data = ssm__chunk_state(job, k, c);
    h.chan = 1;
    h.state = (ptrdiff_t)s->dim;
    ssm__scan_lanes(s, &q, c, lanes, h);
    for (lane = 0; s->h_last.data && k + 1 == job->chunks && lane < lanes; ++lane)
        for (n = 0; n < rows; ++n)
            ssm__at_out(s->h_last, q.seq, 0, c + lane)[ssm__step(n, s->h_last.state)] = h.data[n * s->dim + lane];
}

static int ssm__scan_is_chunked(const ssm_selective_scan *s)
{
    return (s->scan == SSM_SCAN_CHUNKED || s->scan == SSM_SCAN_BLELLOCH) && s->len > SSM__CHUNK;
}

/* Memory of the forward. */
static size_t ssm__scan_forward_layout(const ssm_selective_scan *s, void *mem, ssm__scan_job *job,
                                       ssm__chunk_job *chunk)
{
    const size_t rows = ssm__mul(ssm__state_rows(s->disc, s->d_state), s->dim);
    ssm__arena arena = ssm__arena_open(mem);
    job->s = chunk->s = s;
    job->blocks = chunk->blocks = ssm__ceil_div(s->dim, SSM_LANES);
    job->state = chunk->state = chunk->decay = NULL;
    if (ssm__scan_is_chunked(s)) {
        const size_t chunks = ssm__ceil_div(s->len, SSM__CHUNK);
        chunk->state = ssm__take(&arena, ssm__mul(chunks, rows));
        chunk->decay = ssm__take(&arena, ssm__mul(chunks, ssm__mul(ssm__decay_rows(s), s->dim)));
    }
    if (!s->h_last.data) job->state = ssm__take(&arena, ssm__mul(s->batch, rows));
    return ssm__arena_bytes(&arena);
}

/* The whole problem, disc resolved, in memory of ssm__scan_forward_layout. */
static void ssm__scan(const ssm_selective_scan *s, void *work)
{
    ssm__scan_job job;
    ssm__chunk_job chunk;
    const size_t cost = 8 * s->dim * s->d_state; /* of one step: an exponential is about 8 products */
    size_t b;
    SSM_ASSERT(s->disc != SSM_DISC_DEFAULT); /* resolved by the caller */
    ssm__scan_forward_layout(s, work, &job, &chunk);
    if (!ssm__scan_is_chunked(s)) {
        ssm__parallel(s->parallel, s->batch * job.blocks, s->batch * s->len * cost, ssm__scan_task, &job);
        return;
    }
    for (b = 0; b < s->batch; ++b) {
        chunk.q = ssm__span_of(s->start, b, s->len);
        chunk.chunks = ssm__ceil_div(chunk.q.len, SSM__CHUNK);
        if (chunk.chunks < 2) { /* nothing to carry */
            size_t block;
            for (block = 0; block < job.blocks; ++block) ssm__scan_task(&job, b * job.blocks + block);
            continue;
        }
        ssm__parallel(s->parallel, (chunk.chunks - 1) * chunk.blocks, chunk.q.len * cost, ssm__chunk_local, &chunk);
        ssm__parallel(s->parallel, s->dim, chunk.chunks * cost, ssm__chunk_carry, &chunk);
        ssm__parallel(s->parallel, chunk.chunks * chunk.blocks, chunk.q.len * cost, ssm__chunk_final, &chunk);
    }
}

/* Backward, one channel at a time. Forward again, keeping the state at every SSM__CHUNK-th step;
 * then from the last chunk to the first: recompute it, keep every h and a, and run the adjoint
 *
 *     g[t] = C[t] dy[t] + a[t+1] g[t+1]
 *
 * through it. With h = a (h_ + p v) + b w, w = B u, v = w_ (the underscore: one step before):
 *     dC = dy h     da = g (h_ + p v)     db = g w     dw = g b + dv     dh_ = a g     dv_ = a p g
 */
typedef struct ssm__scan_work {
    ssm_real *boundary; /* [chunks][rows] state before each chunk */
    ssm_real *h;        /* [chunk + 1][rows] states inside one */
    ssm_real *a;        /* [chunk][d_state] */
    ssm_real *y;        /* [chunk] output before the gate */
    ssm_real *dh;       /* [rows] gradient of the state after the current step */
} ssm__scan_work;

static size_t ssm__scan_layout(const ssm_selective_scan *s, void *mem, ssm__scan_work *w)
{
    const size_t rows = ssm__state_rows(s->disc, s->d_state), chunk = ssm__min(SSM__CHUNK, s->len);
    ssm__arena arena = ssm__arena_open(mem);
    w->boundary = ssm__take(&arena, ssm__mul(ssm__ceil_div(s->len, SSM__CHUNK), rows));
    w->h = ssm__take(&arena, ssm__mul(chunk + 1, rows));
    w->a = ssm__take(&arena, ssm__mul(chunk, s->d_state));
    w->y = ssm__take(&arena, chunk);
    w->dh = ssm__take(&arena, rows);
    return ssm__arena_bytes(&arena);
}

static void ssm__add_to(ssm_real *p, ssm_real value)
{
    if (p) *p += value;
}

static void ssm__add_state(ssm_real *p, size_t n, ptrdiff_t stride, ssm_real value)
{
    if (p) p[ssm__step(n, stride)] += value;
}

/* Runs steps t0 .. t0 + steps - 1 forward from w->h[0], keeping all that the adjoint reads. */
static void ssm__scan_replay(const ssm_selective_scan *s, const ssm__span *q, size_t c, size_t t0, size_t steps,
                             const ssm__scan_work *w)
{
    const size_t rows = ssm__state_rows(s->disc, s->d_state);
    const ssm__scan_rule rule = ssm__scan_rule_of(s);
    size_t i;
    for (i = 0; i < steps; ++i) {
        const ssm__scan_step e = ssm__scan_load(s, q, t0 + i, c);
        ssm_real *h = w->h + (i + 1) * rows;
        ssm__copy(h, h - rows, rows);
        w->y[i] = ssm__scan_any(&rule, &e, h, 1, w->a + i * s->d_state);
        if (s->D.data) w->y[i] += *ssm__at(s->D, 0, 0, c) * e.u;
    }
}

/* The adjoint through one step: h_ and h are the states before and after it. */
static void ssm__scan_retreat(const ssm_selective_scan *s, const ssm_selective_scan_grad *d, const ssm__span *q,
                              size_t t, size_t c, ssm_real y, const ssm_real *h_, const ssm_real *a, ssm_real *dh)
{
    const size_t N = s->d_state;
    const ssm_real *h = h_ + ssm__state_rows(s->disc, N);
    const ssm__scan_step e = ssm__scan_load(s, q, t, c);
    const size_t row = q->first + t, g_B = ssm__group_of(s, s->B_groups, c), g_C = ssm__group_of(s, s->C_groups, c);
    ssm_real *dA = ssm__at_out(d->dA, 0, 0, c);
    ssm_real *dB = ssm__at_out(d->dB, q->batch, row, g_B), *dC = ssm__at_out(d->dC, q->batch, row, g_C);
    ssm_real dy = *ssm__at(d->dy, q->batch, row, c), du = 0, d_da = 0, d_db = 0, d_lambda = 0;
    size_t n;
    if (s->z.data) { /* out = y silu(z) */
        const ssm_real z = *ssm__at(s->z, q->batch, row, c);
        ssm__add_to(ssm__at_out(d->dz, q->batch, row, c), dy * y * ssm__silu_derivative(z));
        dy *= ssm__silu(z);
    }
    if (s->D.data) {
        du = dy * *ssm__at(s->D, 0, 0, c);
        ssm__add_to(ssm__at_out(d->dD, 0, 0, c), dy * e.u);
    }
    for (n = 0; n < N; ++n) {
        const ssm_real A = e.A[ssm__step(n, s->A.state)], B = e.B[ssm__step(n, s->B.state)];
        const ssm_real g = dh[n] + dy * e.C[ssm__step(n, s->C.state)], w = B * e.u;
        const ssm__coef k = ssm__discretise_rest(s->disc, A, e.da, e.db, e.lambda, a[n]);
        const ssm__coef_grad kg = ssm__discretise_grad(s->disc, A, e.da, e.db, e.lambda, k);
        ssm_real before = h_[n], dw = g * k.b;
        if (s->disc == SSM_DISC_TRAPEZOID) {
            const ssm_real v = h_[N + n];
            before += k.p * v;
            dw += dh[N + n];
            d_db += g * k.a * (1 - e.lambda) * v;
            d_lambda += g * e.db * (w - k.a * v);
            dh[N + n] = g * k.a * k.p;
        }
        dh[n] = g * k.a;
        du += dw * B;
        d_da += g * before * kg.a_da;
        d_db += g * w * kg.b_db;
        ssm__add_state(dA, n, d->dA.state, g * before * kg.a_A + g * w * kg.b_A);
        ssm__add_state(dB, n, d->dB.state, dw * e.u);
        ssm__add_state(dC, n, d->dC.state, dy * h[n]);
    }
    ssm__add_to(ssm__at_out(d->du, q->batch, row, c), du);
    ssm__add_to(ssm__at_out(d->dlambda, q->batch, row, c), d_lambda);
    if (s->delta_A.data) {
        ssm__add_to(ssm__at_out(d->ddelta_A, q->batch, row, c), d_da);
    } else {
        d_db += d_da;
    }
    if (s->delta_softplus) d_db *= ssm__sigmoid(e.raw);
    ssm__add_to(ssm__at_out(d->ddelta, q->batch, row, c), d_db);
    ssm__add_to(ssm__at_out(d->ddelta_bias, 0, 0, c), d_db);
}

static void ssm__scan_channel_backward(const ssm_selective_scan *s, const ssm_selective_scan_grad *d,
                                       const ssm__span *q, size_t c, const ssm__scan_work *w)
{
    const size_t rows = ssm__state_rows(s->disc, s->d_state), chunks = ssm__ceil_div(q->len, SSM__CHUNK);
    const ssm_real *last = ssm__at(d->dh_last, q->seq, 0, c);
    ssm_real *first = ssm__at_out(d->dh0, q->seq, 0, c);
    const ssm__scan_rule rule = ssm__scan_rule_of(s);
    ssm__lanes h;
    size_t chunk, i, n;
    for (n = 0; n < rows; ++n) w->dh[n] = last ? last[ssm__step(n, d->dh_last.state)] : 0;
    h.data = w->h;
    h.chan = 0;
    h.state = 1;
    ssm__scan_load_state(s, q->seq, c, 1, h);
    for (chunk = 0; chunk < chunks; ++chunk) { /* forward: boundaries only */
        ssm__copy(w->boundary + chunk * rows, h.data, rows);
        for (i = chunk * SSM__CHUNK; chunk + 1 < chunks && i < (chunk + 1) * SSM__CHUNK; ++i) {
            const ssm__scan_step e = ssm__scan_load(s, q, i, c);
            ssm__scan_any(&rule, &e, h.data, 1, NULL);
        }
    }
    for (chunk = chunks; chunk-- > 0;) {
        const size_t t0 = chunk * SSM__CHUNK, steps = ssm__min(SSM__CHUNK, q->len - t0);
        ssm__copy(w->h, w->boundary + chunk * rows, rows);
        ssm__scan_replay(s, q, c, t0, steps, w);
        for (i = steps; i-- > 0;)
            ssm__scan_retreat(s, d, q, t0 + i, c, w->y[i], w->h + i * rows, w->a + i * s->d_state, w->dh);
    }
    for (n = 0; n < rows; ++n) ssm__add_state(first, n, d->dh0.state, w->dh[n]);
}

static void ssm__scan_backward(const ssm_selective_scan *s, const ssm_selective_scan_grad *d, void *work)
{
    ssm__scan_work w;
    size_t b, c;
    ssm__scan_layout(s, work, &w);
    for (b = 0; b < s->batch; ++b) {
        const ssm__span q = ssm__span_of(s->start, b, s->len);
        for (c = 0; c < s->dim; ++c) ssm__scan_channel_backward(s, d, &q, c, &w);
    }
}

static size_t ssm__scan_forward_bytes(const ssm_selective_scan *s)
{
    ssm__scan_job job;
    ssm__chunk_job chunk;
    return ssm__scan_forward_layout(s, NULL, &job, &chunk);
}

/* Checks all but y and memory, and resolves disc into `r`. */
static ssm_status ssm__scan_check(const ssm_selective_scan *s, ssm_selective_scan *r)
{
    if (!s) return SSM_ERR_NULL;
    if (s->dim == 0 || s->d_state == 0 || !ssm__disc_ok(s->disc) || !ssm__scan_ok(s->scan)) return SSM_ERR_CONFIG;
    if (s->batch && s->len && (!s->u.data || !s->delta.data || !s->A.data || !s->B.data || !s->C.data))
        return SSM_ERR_NULL;
    if (s->dim % ssm__groups(s->B_groups) || s->dim % ssm__groups(s->C_groups)) return SSM_ERR_SHAPE;
    *r = *s;
    if (r->disc == SSM_DISC_DEFAULT) r->disc = SSM_DISC_EULER;
    if (ssm__disc_check(r->disc) != SSM_OK) return SSM_ERR_CONFIG;
    return ssm__check_start(s->start, s->batch, s->len);
}

SSM_API ssm_status ssm_selective_scan_sizes(const ssm_selective_scan *s, ssm_sizes *need)
{
    static const ssm_sizes none = SSM__EMPTY;
    ssm_selective_scan r;
    ssm__scan_work w;
    size_t forward, backward;
    ssm_status status = ssm__scan_check(s, &r);
    if (status != SSM_OK) return status;
    if (!need) return SSM_ERR_NULL;
    forward = ssm__scan_forward_bytes(&r);
    backward = ssm__scan_layout(&r, NULL, &w);
    if (forward == SSM__SIZE_MAX || backward == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    *need = none;
    need->work = forward;
    need->work_backward = backward;
    return SSM_OK;
}

SSM_API ssm_status ssm_selective_scan_forward(const ssm_selective_scan *s, void *work, size_t work_bytes)
{
    ssm_selective_scan r;
    ssm_status status = ssm__scan_check(s, &r);
    if (status != SSM_OK) return status;
    if (!s->y.data && s->batch && s->len) return SSM_ERR_NULL;
    status = ssm__check_block(work, work_bytes, ssm__scan_forward_bytes(&r));
    if (status != SSM_OK) return status;
    ssm__scan(&r, work);
    return SSM_OK;
}

SSM_API ssm_status ssm_selective_scan_step(const ssm_selective_scan *s)
{
    ssm_selective_scan r;
    ssm_status status = ssm__scan_check(s, &r);
    if (status != SSM_OK) return status;
    if (!s->y.data || !s->h_last.data) return SSM_ERR_NULL;
    if (s->len != 1 || s->start) return SSM_ERR_SHAPE;
    r.h0 = ssm__as_in(r.h_last);
    ssm__scan(&r, NULL);
    return SSM_OK;
}

SSM_API ssm_status ssm_selective_scan_backward(const ssm_selective_scan *s, const ssm_selective_scan_grad *grad,
                                               void *work, size_t work_bytes)
{
    ssm_selective_scan r;
    ssm__scan_work w;
    ssm_status status = ssm__scan_check(s, &r);
    if (status != SSM_OK) return status;
    if (!grad || !grad->dy.data) return SSM_ERR_NULL;
    status = ssm__check_block(work, work_bytes, ssm__scan_layout(&r, NULL, &w));
    if (status != SSM_OK) return status;
    ssm__scan_backward(&r, grad, work);
    return SSM_OK;
}

/*=============================================================================
 * >>op-s5
 *=============================================================================
 * The S5 scan. All channels meet in one complex state, so a sequence is one recurrence of d_state
 * independent complex numbers between two small matrix products; a step is done state by state.
 */
/* Element (b, t, c, n) of a view; NULL if the view is absent. */
static const ssm_real *ssm__at_state(ssm_in v, size_t b, size_t t, size_t c, size_t n)
{
    return v.data ? ssm__at(v, b, t, c) + ssm__step(n, v.state) : NULL;
}

static void ssm__add_pair(ssm_out v, size_t b, size_t t, size_t c, size_t n, ssm__complex z)
{
    ssm_real *p = v.data ? ssm__at_out(v, b, t, c) + ssm__step(n, v.state) : NULL;
    if (p) ssm__c_store(p, ssm__c_add(ssm__c_load(p), z));
}

/* A real or a complex number, as the option says. */
static ssm__complex ssm__s5_load(const ssm_real *p, int is_complex)
{
    return is_complex ? ssm__c_load(p) : ssm__c(*p, 0);
}

static void ssm__s5_add(ssm_real *p, int is_complex, ssm__complex z)
{
    if (!p) return;
    p[0] += z.re;
    if (is_complex) p[1] += z.im;
}

/* Step sizes and A of one (step, state). */
typedef struct ssm__s5_step {
    ssm__complex A;
    ssm_real da;
    ssm_real db;
} ssm__s5_step;

static ssm__s5_step ssm__s5_step_of(const ssm_s5_scan *s, const ssm__span *q, size_t t, size_t n)
{
    ssm__s5_step e;
    e.A = ssm__c_load(ssm__at_state(s->A, 0, 0, 0, n));
    e.db = *ssm__at_state(s->delta, q->batch, q->first + t, 0, n);
    e.da = s->delta_A.data ? *ssm__at_state(s->delta_A, q->batch, q->first + t, 0, n) : e.db;
    return e;
}

/* v = sum_c B[c] u[c] of one (step, state). */
static ssm__complex ssm__s5_drive(const ssm_s5_scan *s, const ssm__span *q, size_t t, size_t n)
{
    ssm__complex v = ssm__c(0, 0);
    size_t c;
    for (c = 0; c < s->dim; ++c) {
        const ssm__complex B = ssm__c_load(ssm__at_state(s->B, 0, 0, c, n));
        const ssm__complex u = ssm__s5_load(ssm__at(s->u, q->batch, q->first + t, c), s->complex_input);
        v = ssm__c_add(v, s->complex_input ? ssm__c_mul(B, u) : ssm__c_scale(u.re, B));
    }
    return v;
}

/* One step of all states, h in place. keep_v: v of every state, or NULL. */
static void ssm__s5_advance(const ssm_s5_scan *s, const ssm__span *q, size_t t, ssm__lanes h, ssm_real *keep_v)
{
    size_t n;
    for (n = 0; n < s->d_state; ++n) {
        const ssm__s5_step e = ssm__s5_step_of(s, q, t, n);
        const ssm__c_coef k = ssm__c_discretise(s->disc, e.A, e.da, e.db);
        const ssm__complex v = ssm__s5_drive(s, q, t, n);
        ssm_real *p = h.data + ssm__step(n, h.state);
        ssm__c_store(p, ssm__c_add(ssm__c_mul(k.a, ssm__c_load(p)), ssm__c_mul(k.b, v)));
        if (keep_v) ssm__c_store(keep_v + 2 * n, v);
    }
}

/* y of one step from its states. */
static void ssm__s5_emit(const ssm_s5_scan *s, const ssm__span *q, size_t t, ssm__lanes h)
{
    const ssm_real factor = s->conj_sym ? 2 : 1;
    size_t c, n;
    for (c = 0; c < s->dim; ++c) {
        ssm_real *y = ssm__at_out(s->y, q->batch, q->first + t, c);
        ssm__complex sum = ssm__c(0, 0);
        for (n = 0; n < s->d_state; ++n)
            sum = ssm__c_add(sum, ssm__c_mul(ssm__c_load(ssm__at_state(s->C, 0, 0, c, n)),
                                             ssm__c_load(h.data + ssm__step(n, h.state))));
        sum = ssm__c_scale(factor, sum);
        if (s->D.data) {
            const ssm__complex u = ssm__s5_load(ssm__at(s->u, q->batch, q->first + t, c), s->complex_input);
            sum = ssm__c_add(sum, ssm__c_scale(*ssm__at(s->D, 0, 0, c), u));
        }
        y[0] = sum.re;
        if (s->complex_output) y[1] = sum.im;
    }
}

/* h = h0, or zero. */
static void ssm__s5_load_state(const ssm_s5_scan *s, size_t seq, ssm__lanes h)
{
    size_t n;
    for (n = 0; n < s->d_state; ++n) {
        const ssm_real *from = ssm__at_state(s->h0, seq, 0, 0, n);
        ssm__c_store(h.data + ssm__step(n, h.state), from ? ssm__c_load(from) : ssm__c(0, 0));
    }
}

/* work: one state, if h_last is absent. */
static void ssm__s5_scan_run(const ssm_s5_scan *s, ssm_real *work)
{
    size_t b, t;
    for (b = 0; b < s->batch; ++b) {
        const ssm__span q = ssm__span_of(s->start, b, s->len);
        ssm__lanes h;
        h.data = s->h_last.data ? ssm__at_out(s->h_last, b, 0, 0) : work;
        h.chan = 0;
        h.state = s->h_last.data ? s->h_last.state : 2;
        ssm__s5_load_state(s, b, h);
        for (t = 0; t < q.len; ++t) {
            ssm__s5_advance(s, &q, t, h, NULL);
            ssm__s5_emit(s, &q, t, h);
        }
    }
}

/* Backward, one sequence at a time, in chunks as the selective scan's. The adjoint is
 *
 *     g[t] = k conj(C) dy[t] + conj(a[t+1]) g[t+1]
 *     dC = k dy conj(h)   da = g conj(h_)   db = g conj(v)   dv = conj(b) g   dB = dv conj(u)
 */
typedef struct ssm__s5_scan_work {
    ssm_real *boundary; /* [chunks][P][2] state before each chunk */
    ssm_real *h;        /* [chunk + 1][P][2] states inside one */
    ssm_real *v;        /* [chunk][P][2] */
    ssm_real *dh;       /* [P][2] gradient of the state after the current step */
} ssm__s5_scan_work;

static size_t ssm__s5_scan_layout(const ssm_s5_scan *s, void *mem, ssm__s5_scan_work *w)
{
    const size_t row = ssm__mul(2, s->d_state), chunk = ssm__min(SSM__CHUNK, s->len);
    ssm__arena arena = ssm__arena_open(mem);
    w->boundary = ssm__take(&arena, ssm__mul(ssm__ceil_div(s->len, SSM__CHUNK), row));
    w->h = ssm__take(&arena, ssm__mul(chunk + 1, row));
    w->v = ssm__take(&arena, ssm__mul(chunk, row));
    w->dh = ssm__take(&arena, row);
    return ssm__arena_bytes(&arena);
}

/* Gradient of y as that of k C h: complex, with the factor. */
static ssm__complex ssm__s5_dy(const ssm_s5_scan *s, const ssm_s5_scan_grad *d, const ssm__span *q, size_t t, size_t c)
{
    const ssm__complex dy = ssm__s5_load(ssm__at(d->dy, q->batch, q->first + t, c), s->complex_output);
    return ssm__c_scale(s->conj_sym ? 2 : 1, dy);
}

/* Through D u. */
static void ssm__s5_retreat_skip(const ssm_s5_scan *s, const ssm_s5_scan_grad *d, const ssm__span *q, size_t t)
{
    const size_t row = q->first + t;
    size_t c;
    for (c = 0; s->D.data && c < s->dim; ++c) {
        const ssm__complex dy = ssm__s5_load(ssm__at(d->dy, q->batch, row, c), s->complex_output);
        const ssm__complex u = ssm__s5_load(ssm__at(s->u, q->batch, row, c), s->complex_input);
        ssm__add_to(ssm__at_out(d->dD, 0, 0, c), ssm__c_dot(u, dy));
        ssm__s5_add(ssm__at_out(d->du, q->batch, row, c), s->complex_input, ssm__c_scale(*ssm__at(s->D, 0, 0, c), dy));
    }
}

/* Through v = B u of one state. */
static void ssm__s5_retreat_drive(const ssm_s5_scan *s, const ssm_s5_scan_grad *d, const ssm__span *q, size_t t,
                                  size_t n, ssm__complex dv)
{
    const size_t row = q->first + t;
    size_t c;
    for (c = 0; c < s->dim; ++c) {
        const ssm__complex u = ssm__s5_load(ssm__at(s->u, q->batch, row, c), s->complex_input);
        const ssm__complex B = ssm__c_load(ssm__at_state(s->B, 0, 0, c, n));
        const ssm__c_factors Bu = ssm__c_mul_adjoint(B, u, dv);
        ssm__add_pair(d->dB, 0, 0, c, n, Bu.w);
        ssm__s5_add(ssm__at_out(d->du, q->batch, row, c), s->complex_input, Bu.v);
    }
}

/* The adjoint through one step of all states: h_ and h are the states before and after it. */
static void ssm__s5_retreat(const ssm_s5_scan *s, const ssm_s5_scan_grad *d, const ssm__span *q, size_t t,
                            const ssm_real *h_, const ssm_real *h, const ssm_real *v, ssm_real *dh)
{
    const size_t row = q->first + t;
    size_t n, c;
    ssm__s5_retreat_skip(s, d, q, t);
    for (n = 0; n < s->d_state; ++n) {
        const ssm__s5_step e = ssm__s5_step_of(s, q, t, n);
        const ssm__c_coef k = ssm__c_discretise(s->disc, e.A, e.da, e.db);
        const ssm__complex now = ssm__c_load(h + 2 * n);
        ssm__complex g = ssm__c_load(dh + 2 * n);
        ssm__c_factors ah, bv;
        ssm__c_coef gk;
        ssm__c_coef_grad ge;
        for (c = 0; c < s->dim; ++c) {
            const ssm__complex dy = ssm__s5_dy(s, d, q, t, c), C = ssm__c_load(ssm__at_state(s->C, 0, 0, c, n));
            const ssm__c_factors Ch = ssm__c_mul_adjoint(C, now, dy);
            g = ssm__c_add(g, Ch.v);
            ssm__add_pair(d->dC, 0, 0, c, n, Ch.w);
        }
        ah = ssm__c_mul_adjoint(k.a, ssm__c_load(h_ + 2 * n), g);
        bv = ssm__c_mul_adjoint(k.b, ssm__c_load(v + 2 * n), g);
        gk.a = ah.w;
        gk.b = bv.w;
        ge = ssm__c_discretise_grad(s->disc, e.A, e.da, e.db, k, gk);
        ssm__c_store(dh + 2 * n, ah.v);
        ssm__s5_retreat_drive(s, d, q, t, n, bv.v);
        ssm__add_pair(d->dA, 0, 0, 0, n, ge.A);
        if (s->delta_A.data) ssm__add_state(ssm__at_out(d->ddelta_A, q->batch, row, 0), n, d->ddelta_A.state, ge.da);
        else ge.db += ge.da;
        ssm__add_state(ssm__at_out(d->ddelta, q->batch, row, 0), n, d->ddelta.state, ge.db);
    }
}

static void ssm__s5_span_backward(const ssm_s5_scan *s, const ssm_s5_scan_grad *d, const ssm__span *q,
                                  const ssm__s5_scan_work *w)
{
    const size_t row = 2 * s->d_state, chunks = ssm__ceil_div(q->len, SSM__CHUNK);
    ssm__lanes h;
    size_t chunk, i, n;
    h.data = w->h;
    h.chan = 0;
    h.state = 2;
    for (n = 0; n < s->d_state; ++n) {
        const ssm_real *last = ssm__at_state(d->dh_last, q->seq, 0, 0, n);
        ssm__c_store(w->dh + 2 * n, last ? ssm__c_load(last) : ssm__c(0, 0));
    }
    ssm__s5_load_state(s, q->seq, h);
    for (chunk = 0; chunk < chunks; ++chunk) { /* forward: boundaries only */
        ssm__copy(w->boundary + chunk * row, w->h, row);
        for (i = chunk * SSM__CHUNK; chunk + 1 < chunks && i < (chunk + 1) * SSM__CHUNK; ++i)
            ssm__s5_advance(s, q, i, h, NULL);
    }
    for (chunk = chunks; chunk-- > 0;) {
        const size_t t0 = chunk * SSM__CHUNK, steps = ssm__min(SSM__CHUNK, q->len - t0);
        ssm__copy(w->h, w->boundary + chunk * row, row);
        for (i = 0; i < steps; ++i) {
            h.data = w->h + (i + 1) * row;
            ssm__copy(h.data, h.data - row, row);
            ssm__s5_advance(s, q, t0 + i, h, w->v + i * row);
        }
        for (i = steps; i-- > 0;)
            ssm__s5_retreat(s, d, q, t0 + i, w->h + i * row, w->h + (i + 1) * row, w->v + i * row, w->dh);
    }
    for (n = 0; n < s->d_state; ++n) ssm__add_pair(d->dh0, q->seq, 0, 0, n, ssm__c_load(w->dh + 2 * n));
}

static size_t ssm__s5_scan_forward_bytes(const ssm_s5_scan *s)
{
    ssm__arena arena = ssm__arena_open(NULL);
    if (!s->h_last.data) ssm__take(&arena, ssm__mul(2, s->d_state));
    return ssm__arena_bytes(&arena);
}

/* Checks all but y and memory, and resolves disc into `r`. */
static ssm_status ssm__s5_scan_check(const ssm_s5_scan *s, ssm_s5_scan *r)
{
    if (!s) return SSM_ERR_NULL;
    if (s->dim == 0 || s->d_state == 0 || !ssm__disc_ok(s->disc)) return SSM_ERR_CONFIG;
    if (s->disc == SSM_DISC_TRAPEZOID || (s->conj_sym && s->complex_output)) return SSM_ERR_CONFIG;
    if (s->batch && s->len && (!s->u.data || !s->delta.data || !s->A.data || !s->B.data || !s->C.data))
        return SSM_ERR_NULL;
    *r = *s;
    if (r->disc == SSM_DISC_DEFAULT) r->disc = SSM_DISC_ZOH;
    return ssm__check_start(s->start, s->batch, s->len);
}

SSM_API ssm_status ssm_s5_scan_sizes(const ssm_s5_scan *s, ssm_sizes *need)
{
    static const ssm_sizes none = SSM__EMPTY;
    ssm_s5_scan r;
    ssm__s5_scan_work w;
    size_t forward, backward;
    ssm_status status = ssm__s5_scan_check(s, &r);
    if (status != SSM_OK) return status;
    if (!need) return SSM_ERR_NULL;
    forward = ssm__s5_scan_forward_bytes(&r);
    backward = ssm__s5_scan_layout(&r, NULL, &w);
    if (forward == SSM__SIZE_MAX || backward == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    *need = none;
    need->work = forward;
    need->work_backward = backward;
    return SSM_OK;
}

SSM_API ssm_status ssm_s5_scan_forward(const ssm_s5_scan *s, void *work, size_t work_bytes)
{
    ssm_s5_scan r;
    ssm__arena arena;
    ssm_status status = ssm__s5_scan_check(s, &r);
    if (status != SSM_OK) return status;
    if (!s->y.data && s->batch && s->len) return SSM_ERR_NULL;
    status = ssm__check_block(work, work_bytes, ssm__s5_scan_forward_bytes(&r));
    if (status != SSM_OK) return status;
    arena = ssm__arena_open(work);
    ssm__s5_scan_run(&r, (ssm_real *)(void *)arena.base);
    return SSM_OK;
}

SSM_API ssm_status ssm_s5_scan_step(const ssm_s5_scan *s)
{
    ssm_s5_scan r;
    ssm_status status = ssm__s5_scan_check(s, &r);
    if (status != SSM_OK) return status;
    if (!s->y.data || !s->h_last.data) return SSM_ERR_NULL;
    if (s->len != 1 || s->start) return SSM_ERR_SHAPE;
    r.h0 = ssm__as_in(r.h_last);
    ssm__s5_scan_run(&r, NULL);
    return SSM_OK;
}

SSM_API ssm_status ssm_s5_scan_backward(const ssm_s5_scan *s, const ssm_s5_scan_grad *grad, void *work,
                                        size_t work_bytes)
{
    ssm_s5_scan r;
    ssm__s5_scan_work w;
    size_t b;
    ssm_status status = ssm__s5_scan_check(s, &r);
    if (status != SSM_OK) return status;
    if (!grad || !grad->dy.data) return SSM_ERR_NULL;
    status = ssm__check_block(work, work_bytes, ssm__s5_scan_layout(&r, NULL, &w));
    if (status != SSM_OK) return status;
    ssm__s5_scan_layout(&r, work, &w);
    for (b = 0; b < r.batch; ++b) {
        const ssm__span q = ssm__span_of(r.start, b, r.len);
        ssm__s5_span_backward(&r, grad, &q, &w);
    }
    return SSM_OK;
}

/*=============================================================================
 * >>op-fft
 *=============================================================================
 * Data are `lanes` independent transforms side by side, [n][re, im][lanes], so that every butterfly is
 * a loop over lanes. Forward transforms leave their result at bit-reversed places and inverse ones
 * read it there; a convolution needs no reordering. A real signal of 2n rows is a complex one of n as it
 * lies, even rows real and odd ones imaginary, Z = E + iO; E[k] = (Z[k] + conj Z[-k])/2 and
 * O[k] = (Z[k] - conj Z[-k])/2i come apart, and the place of -k is that of k with all bits below its
 * highest set bit flipped. Every channel has a transform of its own: NaN stays where it is.
 */
static size_t ssm__fft_size(size_t len)
{
    size_t n = 1;
    while (n < len && n <= SSM__SIZE_MAX / 2) n *= 2;
    return n < len ? SSM__SIZE_MAX : n;
}

/* exp(-2 pi i k / n), n a power of two: the angle folded into the first octant, where sincos is exact
 * to the last bit or so. */
static ssm__complex ssm__twiddle(size_t k, size_t n)
{
    const size_t turn = 8 * (k % n), octant = turn / n, rest = turn % n;
    const size_t part = octant % 2 ? n - rest : rest; /* of an octant, in n-ths */
    ssm_real sine, cosine, swap;
    ssm__sincos(SSM__K(0.78539816339744830962) * ((ssm_real)part / (ssm_real)n), &sine, &cosine);
    if ((octant + 1) / 2 % 2) { /* octants 1, 2, 5, 6 */
        swap = sine;
        sine = cosine;
        cosine = swap;
    }
    if (octant >= 2 && octant < 6) cosine = -cosine;
    if (octant >= 4) sine = -sine;
    return ssm__c(cosine, -sine);
}

/* Twiddles k < n/2, [k][re, im]. */
static void ssm__fft_table(ssm_real *table, size_t n)
{
    size_t k;
    for (k = 0; k < n / 2; ++k) ssm__c_store(table + 2 * k, ssm__twiddle(k, n));
}

/* (a, b) -> (a + b, (a - b) w) for 2 x `lanes` reals. */
static void ssm__fft_split(ssm_real *SSM__RESTRICT a, ssm_real *SSM__RESTRICT b, ssm__complex w, size_t lanes)
{
    size_t i;
    for (i = 0; i < lanes; ++i) {
        const ssm_real re = a[i] - b[i], im = a[lanes + i] - b[lanes + i];
        a[i] += b[i];
        a[lanes + i] += b[lanes + i];
        b[i] = re * w.re - im * w.im;
        b[lanes + i] = re * w.im + im * w.re;
    }
}

/* (a, b) -> (a + b w, a - b w). */
static void ssm__fft_merge(ssm_real *SSM__RESTRICT a, ssm_real *SSM__RESTRICT b, ssm__complex w, size_t lanes)
{
    size_t i;
    for (i = 0; i < lanes; ++i) {
        const ssm_real re = b[i] * w.re - b[lanes + i] * w.im, im = b[i] * w.im + b[lanes + i] * w.re;
        b[i] = a[i] - re;
        b[lanes + i] = a[lanes + i] - im;
        a[i] += re;
        a[lanes + i] += im;
    }
}

/* Decimation in frequency: natural order in, bit-reversed out. */
static void ssm__fft_forward(ssm_real *data, size_t n, size_t lanes, const ssm_real *table)
{
    size_t half, start, j;
    for (half = n / 2; half > 0; half /= 2)
        for (start = 0; start < n; start += 2 * half)
            for (j = 0; j < half; ++j)
                ssm__fft_split(data + (start + j) * 2 * lanes, data + (start + j + half) * 2 * lanes,
                               ssm__c_load(table + 2 * (j * (n / 2 / half))), lanes);
}

/* Decimation in time: bit-reversed in, natural order out; n times the inverse. */
static void ssm__fft_inverse(ssm_real *data, size_t n, size_t lanes, const ssm_real *table)
{
    size_t half, start, j;
    for (half = 1; half < n; half *= 2)
        for (start = 0; start < n; start += 2 * half)
            for (j = 0; j < half; ++j)
                ssm__fft_merge(data + (start + j) * 2 * lanes, data + (start + j + half) * 2 * lanes,
                               ssm__c_conj(ssm__c_load(table + 2 * (j * (n / 2 / half)))), lanes);
}

/* The place of frequency k among n; the frequency at place k. */
static size_t ssm__fft_reversed(size_t k, size_t n)
{
    size_t r = 0;
    for (; n > 1; n /= 2, k /= 2) r = 2 * r + k % 2;
    return r;
}

/* The place of -k, from that of k. */
static size_t ssm__fft_partner(size_t place)
{
    size_t below = 1;
    while (below * 2 <= place) below *= 2;
    return place ? place ^ (below - 1) : 0;
}

/* One lane of a spectrum at a place and its partner: the spectra of its even and odd
 * rows there. */
static void ssm__fft_apart(const ssm_real *z, const ssm_real *partner, size_t lanes, size_t i, ssm__complex *even,
                           ssm__complex *odd)
{
    const ssm__complex k = ssm__c(z[i], z[lanes + i]), m = ssm__c(partner[i], -partner[lanes + i]);
    const ssm__complex sum = ssm__c_add(k, m), difference = ssm__c_sub(k, m);
    *even = ssm__c_scale(SSM__K(0.5), sum);
    *odd = ssm__c(SSM__K(0.5) * difference.im, SSM__K(-0.5) * difference.re);
}

/* E + iO, at the place. */
static void ssm__fft_together(ssm_real *z, size_t lanes, size_t i, ssm__complex even, ssm__complex odd)
{
    z[i] = even.re - odd.im;
    z[lanes + i] = even.im + odd.re;
}

/* x <- x k / n for spectra of real signals of 2n rows: E = Ex Ek + w Ox Ok, O = Ex Ok + Ox Ek, with
 * w[k] = exp(-2 pi i k / n). */
static void ssm__fft_product(ssm_real *x, const ssm_real *k, size_t n, size_t lanes)
{
    const ssm_real scale = 1 / (ssm_real)n;
    size_t p, i;
    for (p = 0; p < n; ++p) {
        const size_t q = ssm__fft_partner(p);
        const ssm__complex w = q < p ? ssm__c(0, 0) : ssm__twiddle(ssm__fft_reversed(p, n), n);
        ssm_real *xp = x + p * 2 * lanes, *xq = x + q * 2 * lanes;
        const ssm_real *kp = k + p * 2 * lanes, *kq = k + q * 2 * lanes;
        for (i = 0; q >= p && i < lanes; ++i) {
            ssm__complex even, odd, k_even, k_odd, product;
            ssm__fft_apart(xp, xq, lanes, i, &even, &odd);
            ssm__fft_apart(kp, kq, lanes, i, &k_even, &k_odd);
            product = ssm__c_add(ssm__c_mul(even, k_even), ssm__c_mul(w, ssm__c_mul(odd, k_odd)));
            odd = ssm__c_scale(scale, ssm__c_add(ssm__c_mul(even, k_odd), ssm__c_mul(odd, k_even)));
            even = ssm__c_scale(scale, product);
            ssm__fft_together(xp, lanes, i, even, odd);
            if (q != p) ssm__fft_together(xq, lanes, i, ssm__c_conj(even), ssm__c_conj(odd));
        }
    }
}

SSM_API ssm_status ssm_fft_size(size_t n, size_t *bytes)
{
    ssm__arena arena = ssm__arena_open(NULL);
    if (!bytes) return SSM_ERR_NULL;
    if (n == 0 || (n & (n - 1)) != 0) return SSM_ERR_SHAPE;
    ssm__take(&arena, n);
    if (ssm__arena_bytes(&arena) == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    *bytes = ssm__arena_bytes(&arena);
    return SSM_OK;
}

SSM_API ssm_status ssm_fft(ssm_real *data, size_t n, int inverse, void *work, size_t work_bytes)
{
    ssm__arena arena = ssm__arena_open(work);
    const ssm_real scale = 1 / (ssm_real)n;
    ssm_real *table;
    size_t need = 0, k;
    ssm_status status = ssm_fft_size(n, &need);
    if (status == SSM_OK) status = ssm__check_block(work, work_bytes, need);
    if (status != SSM_OK) return status;
    if (!data) return SSM_ERR_NULL;
    table = ssm__take(&arena, n);
    ssm__fft_table(table, n);
    if (!inverse) ssm__fft_forward(data, n, 1, table);
    for (k = 0; k < n; ++k) { /* the spectrum to or from its natural order */
        const size_t r = ssm__fft_reversed(k, n);
        const ssm__complex swap = ssm__c_load(data + 2 * k);
        if (r <= k) continue;
        ssm__c_store(data + 2 * k, ssm__c_load(data + 2 * r));
        ssm__c_store(data + 2 * r, swap);
    }
    if (!inverse) return SSM_OK;
    ssm__fft_inverse(data, n, 1, table);
    for (k = 0; k < 2 * n; ++k) data[k] *= scale;
    return SSM_OK;
}

typedef struct ssm__convolve_work {
    size_t n; /* of the complex transform: half the rows */
    ssm_real *table;
    ssm_real *x;
    ssm_real *k;
} ssm__convolve_work;

static size_t ssm__convolve_layout(size_t a_len, size_t b_len, void *mem, ssm__convolve_work *w)
{
    ssm__arena arena = ssm__arena_open(mem);
    if (a_len == 0 || b_len == 0) return 0;
    w->n = ssm__fft_size(ssm__ceil_div(ssm__add(a_len, b_len - 1), 2));
    w->table = ssm__take(&arena, w->n);
    w->x = ssm__take(&arena, ssm__mul(2, w->n));
    w->k = ssm__take(&arena, ssm__mul(2, w->n));
    return ssm__arena_bytes(&arena);
}

SSM_API ssm_status ssm_convolve_size(size_t a_len, size_t b_len, size_t *bytes)
{
    ssm__convolve_work w;
    const size_t need = ssm__convolve_layout(a_len, b_len, NULL, &w);
    if (!bytes) return SSM_ERR_NULL;
    if (need == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    *bytes = need;
    return SSM_OK;
}

SSM_API ssm_status ssm_convolve(const ssm_real *a, size_t a_len, const ssm_real *b, size_t b_len, ssm_real *y,
                                void *work, size_t work_bytes)
{
    ssm__convolve_work w;
    ssm_status status = ssm__check_block(work, work_bytes, ssm__convolve_layout(a_len, b_len, NULL, &w));
    if (status != SSM_OK || a_len == 0 || b_len == 0) return status;
    if (!a || !b || !y) return SSM_ERR_NULL;
    ssm__convolve_layout(a_len, b_len, work, &w);
    ssm__fft_table(w.table, w.n);
    ssm__zero(w.x, 2 * w.n);
    ssm__zero(w.k, 2 * w.n);
    ssm__copy(w.x, a, a_len);
    ssm__copy(w.k, b, b_len);
    ssm__fft_forward(w.x, w.n, 1, w.table);
    ssm__fft_forward(w.k, w.n, 1, w.table);
    ssm__fft_product(w.x, w.k, w.n, 1);
    ssm__fft_inverse(w.x, w.n, 1, w.table);
    ssm__copy(y, w.x, a_len + b_len - 1);
    return SSM_OK;
}

/*=============================================================================
 * >>tiles
 *=============================================================================
 * A layer runs over its sequences in tiles of at most SSM_TILE_ROWS rows: some steps of one
 * sequence, or several short sequences whole. So the workspace does not grow with the length, and a
 * step is simply a tile of one row for each stream. What a layer brings is a function that runs one
 * tile and the sizes of its memory; walking, strides and checks are done here, for all layers.
 */
typedef struct ssm__tile {
    size_t seq; /* sequences seq .. seq + count - 1 */
    size_t count;
    size_t time; /* steps time .. time + steps - 1 of each */
    size_t steps;
    size_t row;  /* first row, counting all rows of the call */
    size_t slot; /* first of `count` entering states on the tape */
} ssm__tile;

/* One tile of one call, as a layer's tile function sees it. x, y, dy, dx: rows of d_model reals. */
typedef struct ssm__call {
    const void *layer;
    size_t d_model;
    size_t state_count; /* reals of state for one stream */
    int whole;          /* 1: sequences must not be cut along time */
    const ssm_parallel *parallel;
    ssm__tile tile;
    ssm_real *state; /* of the tile's first stream; dstate in backward */
    const ssm_real *x;
    ptrdiff_t x_row;
    ssm_real *y;
    ptrdiff_t y_row;
    const ssm_real *dy;
    ptrdiff_t dy_row;
    ssm_real *dx; /* NULL: not wanted */
    ptrdiff_t dx_row;
    ssm_real *dparams;          /* NULL: not wanted */
    void *tape;                 /* NULL: forward only, or nothing to keep. Backward only reads it */
    const ssm_real *step_scale; /* of the call's first row; NULL: 1 */
    size_t tape_rows;
    size_t tape_slots;
    size_t tile_rows; /* of the largest tile of this call */
    int no_state;     /* the caller keeps none: what a tile leaves in `state` is forgotten */
    int has_params;   /* bound, not attached: record and backward can run */
    void *work;
} ssm__call;

/* A verb of a layer: its tile function, bytes of its scratch for tiles of `rows` rows from `streams`
 * sequences, and of its tape (NULL if it has none). */
typedef struct ssm__verb {
    void (*tile)(const ssm__call *call);
    size_t (*work)(const void *layer, size_t rows, size_t streams);
    size_t (*tape)(const void *layer, size_t rows, size_t slots);
} ssm__verb;

/* The same functions for `sizes`, apart from the tile functions: a program that asks for sizes need not
 * contain the layer. */
typedef struct ssm__memory {
    size_t (*work)(const void *layer, size_t rows, size_t streams);
    size_t (*work_step)(const void *layer, size_t rows, size_t streams); /* NULL: no step */
    size_t (*work_backward)(const void *layer, size_t rows, size_t streams);
    size_t (*tape)(const void *layer, size_t rows, size_t slots);
} ssm__memory;

/* What the extents of a call come to. */
typedef struct ssm__plan {
    ssm_strides x;
    ssm_strides y;
    int x_direct; /* rows of the tensor can be used where they lie */
    int y_direct;
    size_t rows;         /* of all sequences */
    size_t tile_rows;    /* of the largest tile */
    size_t tile_streams; /* sequences in the largest tile */
    size_t slots;        /* tiles x sequences in them */
    size_t cap;          /* most rows of a tile: SSM_TILE_ROWS, or the longest sequence if that is more */
} ssm__plan;

static size_t ssm__seq_len(const ssm_seqs *seqs, size_t b)
{
    return seqs->start ? seqs->start[b + 1] - seqs->start[b] : seqs->len;
}

static ssm_strides ssm__strides_or_dense(ssm_strides s, size_t len, size_t chans)
{
    if (s.batch == 0 && s.time == 0 && s.chan == 0) {
        s.batch = (ptrdiff_t)(len * chans);
        s.time = (ptrdiff_t)chans;
        s.chan = 1;
    }
    return s;
}

/* Whether the rows of any tile are evenly spaced and contiguous inside. */
static int ssm__is_direct(const ssm_seqs *seqs, ssm_strides s)
{
    if (s.chan != 1) return 0;
    return seqs->start != NULL || seqs->batch <= 1 || seqs->len <= 1 || s.batch == ssm__step(seqs->len, s.time);
}

static ssm_status ssm__plan_make(const ssm_seqs *seqs, size_t d_model, int whole, ssm__plan *plan)
{
    ssm_status status;
    size_t b;
    if (!seqs) return SSM_ERR_NULL;
    status = ssm__check_start(seqs->start, seqs->batch, seqs->len);
    if (status != SSM_OK) return status;
    plan->rows = seqs->start ? seqs->len : ssm__mul(seqs->batch, seqs->len);
    if (ssm__mul(plan->rows, ssm__mul(d_model, sizeof(ssm_real))) == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    plan->x = ssm__strides_or_dense(seqs->x, seqs->len, d_model);
    plan->y = ssm__strides_or_dense(seqs->y, seqs->len, d_model);
    plan->x_direct = ssm__is_direct(seqs, plan->x);
    plan->y_direct = ssm__is_direct(seqs, plan->y);
    plan->cap = SSM_TILE_ROWS;
    for (b = 0; whole && b < (seqs->start ? seqs->batch : 1); ++b)
        if (ssm__seq_len(seqs, b) > plan->cap) plan->cap = ssm__seq_len(seqs, b);
    plan->tile_rows = ssm__min(plan->rows, plan->cap);
    plan->tile_streams = 1;
    if (!seqs->start && seqs->len > 0 && seqs->len <= plan->cap)
        plan->tile_streams = ssm__min(seqs->batch, plan->cap / seqs->len);
    plan->slots = ssm__mul(seqs->batch, ssm__ceil_div(seqs->len, plan->cap));
    if (seqs->start)
        for (plan->slots = 0, b = 0; b < seqs->batch; ++b)
            plan->slots += ssm__ceil_div(ssm__seq_len(seqs, b), plan->cap);
    return SSM_OK;
}

/* Walks all tiles; within a sequence forwards or backwards in time. Start from zero. */
typedef struct ssm__walk {
    size_t seq;
    size_t part; /* tiles of this sequence done */
    size_t row;
    size_t slot;
} ssm__walk;

static int ssm__walk_next(ssm__walk *w, const ssm_seqs *seqs, size_t cap, int reverse, ssm__tile *tile)
{
    for (; w->seq < seqs->batch; w->seq += tile->count, w->part = 0) {
        const size_t len = ssm__seq_len(seqs, w->seq), parts = ssm__ceil_div(len, cap);
        const size_t index = reverse ? parts - 1 - w->part : w->part;
        tile->count = 1;
        if (!seqs->start && parts == 1) tile->count = ssm__min(seqs->batch - w->seq, cap / len);
        if (w->part < parts) {
            tile->seq = w->seq;
            tile->time = index * cap;
            tile->steps = ssm__min(len - tile->time, cap);
            tile->row = (seqs->start ? seqs->start[w->seq] : w->row) + tile->time;
            tile->slot = w->slot + index;
            w->part += 1;
            SSM_ASSERT(tile->steps > 0 && tile->count * tile->steps <= cap);
            return 1;
        }
        w->row += tile->count * len;
        w->slot += tile->count * parts;
    }
    return 0;
}

/* First element of the tile in a tensor, and the stride of its rows when it is used directly. */
static ptrdiff_t ssm__tile_offset(const ssm_seqs *seqs, const ssm__tile *t, ssm_strides s)
{
    if (seqs->start) return ssm__step(seqs->start[t->seq] + t->time, s.time);
    return ssm__step(t->seq, s.batch) + ssm__step(t->time, s.time);
}

static ptrdiff_t ssm__tile_stride(const ssm__tile *t, ssm_strides s)
{
    return t->steps == 1 && t->count > 1 ? s.batch : s.time;
}

/* Element of row r, channel c of a tile, from the tile's first element. */
static ptrdiff_t ssm__tile_index(const ssm__tile *t, ssm_strides s, size_t r, size_t c)
{
    return ssm__step(r / t->steps, s.batch) + ssm__step(r % t->steps, s.time) + ssm__step(c, s.chan);
}

static void ssm__gather(const ssm__tile *t, ssm_strides s, const ssm_real *from, ssm_real *rows, size_t chans)
{
    size_t r, c;
    for (r = 0; r < t->count * t->steps; ++r)
        for (c = 0; c < chans; ++c) *rows++ = from[ssm__tile_index(t, s, r, c)];
}

static void ssm__scatter(const ssm__tile *t, ssm_strides s, const ssm_real *rows, ssm_real *to, size_t chans, int add)
{
    size_t r, c;
    for (r = 0; r < t->count * t->steps; ++r) {
        for (c = 0; c < chans; ++c, ++rows) {
            ssm_real *p = to + ssm__tile_index(t, s, r, c);
            *p = add ? *p + *rows : *rows;
        }
    }
}

/* Scratch of one call: copies of rows that cannot be used directly, the layer's own block, and a
 * state if the caller gave none. */
typedef struct ssm__scratch {
    ssm_real *x;
    ssm_real *y;
    ssm_real *dx;
    void *work;
    ssm_real *state;
} ssm__scratch;

static size_t ssm__scratch_layout(const ssm__plan *p, size_t d_model, size_t layer_bytes, int backward,
                                  size_t state_count, void *mem, ssm__scratch *s)
{
    ssm__arena arena = ssm__arena_open(mem);
    const size_t copy = ssm__mul(p->tile_rows, d_model);
    s->x = p->x_direct ? NULL : ssm__take(&arena, copy);
    s->y = p->y_direct ? NULL : ssm__take(&arena, copy);
    s->dx = p->x_direct || !backward ? NULL : ssm__take(&arena, copy);
    s->work = ssm__take(&arena, ssm__ceil_div(layer_bytes, sizeof(ssm_real)));
    s->state = state_count ? ssm__take(&arena, state_count) : NULL;
    return ssm__arena_bytes(&arena);
}

/* Checks that every verb shares. Returns the scratch laid out over `work`. */
static ssm_status ssm__call_open(const ssm__verb *verb, ssm__call *call, const ssm_seqs *seqs, const ssm__plan *plan,
                                 size_t tape_bytes, void *work, size_t work_bytes, ssm__scratch *scratch)
{
    const size_t layer_bytes = verb->work(call->layer, plan->tile_rows, plan->tile_streams);
    const size_t states = call->state ? 0 : ssm__mul(seqs->batch, call->state_count);
    const int backward = call->dy != NULL;
    ssm_status status = SSM_OK;
    size_t need;
    call->parallel = seqs->parallel;
    call->step_scale = seqs->step_scale;
    call->tape_rows = plan->rows;
    call->tape_slots = plan->slots;
    if (verb->tape) status = ssm__check_block(call->tape, tape_bytes, verb->tape(call->layer, plan->rows, plan->slots));
    if (status != SSM_OK) return status;
    need = ssm__scratch_layout(plan, call->d_model, layer_bytes, backward, 0, NULL, scratch);
    status = ssm__check_block(work, work_bytes, ssm__add(need, ssm__mul(states, sizeof(ssm_real))));
    if (status != SSM_OK) return status;
    ssm__scratch_layout(plan, call->d_model, layer_bytes, backward, states, work, scratch);
    call->work = scratch->work;
    call->tile_rows = plan->tile_rows;
    call->no_state = scratch->state != NULL;
    if (scratch->state) {
        ssm__zero(scratch->state, states);
        call->state = scratch->state;
    }
    return SSM_OK;
}

/* forward and record: fills in the rest of `call`, which holds the layer, state, x, y and tape. */
static ssm_status ssm__run_forward(const ssm__verb *verb, ssm__call *call, const ssm_seqs *seqs, size_t tape_bytes,
                                   void *work, size_t work_bytes)
{
    static const ssm__walk from_start = SSM__EMPTY;
    const ssm_real *x = call->x;
    ssm_real *y = call->y, *state;
    ssm__walk walk = from_start;
    ssm__scratch scratch;
    ssm__plan plan;
    ssm_status status = ssm__plan_make(seqs, call->d_model, call->whole, &plan);
    if (status != SSM_OK) return status;
    if (plan.rows == 0 || plan.slots == 0) return SSM_OK;
    if (!x || !y) return SSM_ERR_NULL;
    status = ssm__call_open(verb, call, seqs, &plan, tape_bytes, work, work_bytes, &scratch);
    if (status != SSM_OK) return status;
    state = call->state;
    while (ssm__walk_next(&walk, seqs, plan.cap, 0, &call->tile)) {
        const ssm__tile *t = &call->tile;
        ssm_real *y_tile = y + ssm__tile_offset(seqs, t, plan.y);
        call->state = state ? state + t->seq * call->state_count : NULL; /* NULL: the layer has none */
        call->x = x + ssm__tile_offset(seqs, t, plan.x);
        call->x_row = ssm__tile_stride(t, plan.x);
        if (scratch.x) {
            ssm__gather(t, plan.x, call->x, scratch.x, call->d_model);
            call->x = scratch.x;
            call->x_row = (ptrdiff_t)call->d_model;
        }
        call->y = scratch.y ? scratch.y : y_tile;
        call->y_row = scratch.y ? (ptrdiff_t)call->d_model : ssm__tile_stride(t, plan.y);
        verb->tile(call);
        if (scratch.y) ssm__scatter(t, plan.y, scratch.y, y_tile, call->d_model, 0);
    }
    return SSM_OK;
}

/* backward: `call` holds the layer, dstate as state, x, dy, dx, dparams and tape. */
static ssm_status ssm__run_backward(const ssm__verb *verb, ssm__call *call, const ssm_seqs *seqs, size_t tape_bytes,
                                    void *work, size_t work_bytes)
{
    static const ssm__walk from_start = SSM__EMPTY;
    const ssm_real *x = call->x, *dy = call->dy;
    ssm_real *dx = call->dx, *state;
    ssm__walk walk = from_start;
    ssm__scratch scratch;
    ssm__plan plan;
    ssm_status status = ssm__plan_make(seqs, call->d_model, call->whole, &plan);
    if (status != SSM_OK) return status;
    if (plan.rows == 0 || plan.slots == 0) return SSM_OK;
    if (!x || !dy) return SSM_ERR_NULL;
    status = ssm__call_open(verb, call, seqs, &plan, tape_bytes, work, work_bytes, &scratch);
    if (status != SSM_OK) return status;
    state = call->state;
    while (ssm__walk_next(&walk, seqs, plan.cap, 1, &call->tile)) {
        const ssm__tile *t = &call->tile;
        ssm_real *dx_tile = dx ? dx + ssm__tile_offset(seqs, t, plan.x) : NULL;
        call->state = state ? state + t->seq * call->state_count : NULL; /* NULL: the layer has none */
        call->x = x + ssm__tile_offset(seqs, t, plan.x);
        call->dy = dy + ssm__tile_offset(seqs, t, plan.y);
        call->dx = dx_tile;
        call->x_row = call->dx_row = ssm__tile_stride(t, plan.x);
        call->dy_row = ssm__tile_stride(t, plan.y);
        if (scratch.x) {
            ssm__gather(t, plan.x, call->x, scratch.x, call->d_model);
            ssm__zero(scratch.dx, t->count * t->steps * call->d_model);
            call->x = scratch.x;
            call->dx = dx ? scratch.dx : NULL;
            call->x_row = call->dx_row = (ptrdiff_t)call->d_model;
        }
        if (scratch.y) {
            ssm__gather(t, plan.y, call->dy, scratch.y, call->d_model);
            call->dy = scratch.y;
            call->dy_row = (ptrdiff_t)call->d_model;
        }
        verb->tile(call);
        if (scratch.x && dx) ssm__scatter(t, plan.x, scratch.dx, dx_tile, call->d_model, 1);
    }
    return SSM_OK;
}

static ssm__call ssm__call_of(const void *layer, size_t d_model, size_t state_count)
{
    static const ssm__call none = SSM__EMPTY;
    ssm__call call = none;
    call.layer = layer;
    call.d_model = d_model;
    call.state_count = state_count;
    return call;
}

/* Streams that a step works on at a time, and their number where there is one at least: a constant if the
 * build says one, so that loops over them are left out. */
static size_t ssm__step_rows(size_t streams)
{
    return ssm__min(streams, SSM_TILE_ROWS);
}
#define SSM__STEP_ROWS(rows) (SSM_TILE_ROWS > 1 ? (rows) : 1)

/* The sizes verb of every layer, from its memory and a call that names it. */
static ssm_status ssm__layer_sizes(const ssm__memory *memory, ssm__call call, size_t params, size_t bound_bytes,
                                   const ssm_seqs *seqs, ssm_sizes *need)
{
    const size_t streams = seqs ? ssm__step_rows(seqs->batch) : 0;
    ssm__scratch scratch;
    ssm__plan plan;
    ssm_sizes n;
    ssm_status status = ssm__plan_make(seqs, call.d_model, call.whole, &plan);
    if (status != SSM_OK) return status;
    if (!need) return SSM_ERR_NULL;
    n.params = ssm__mul(params, sizeof(ssm_real));
    n.bound = bound_bytes;
    n.state = ssm__mul(seqs->batch, ssm__mul(call.state_count, sizeof(ssm_real)));
    n.tape = n.work = n.work_backward = 0;
    n.work_step = memory->work_step && streams ? memory->work_step(call.layer, streams, streams) : 0;
    if (plan.slots) {
        n.tape = memory->tape(call.layer, plan.rows, plan.slots);
        n.work = memory->work(call.layer, plan.tile_rows, plan.tile_streams);
        n.work = ssm__scratch_layout(&plan, call.d_model, n.work, 0, 0, NULL, &scratch);
        n.work_backward = memory->work_backward(call.layer, plan.tile_rows, plan.tile_streams);
        n.work_backward = ssm__scratch_layout(&plan, call.d_model, n.work_backward, 1, 0, NULL, &scratch);
        if (n.work < n.work_step) n.work = n.work_step;
    }
    if (n.params == SSM__SIZE_MAX || n.bound == SSM__SIZE_MAX || n.state == SSM__SIZE_MAX || n.tape == SSM__SIZE_MAX ||
        n.work == SSM__SIZE_MAX || n.work_step == SSM__SIZE_MAX || n.work_backward == SSM__SIZE_MAX)
        return SSM_ERR_OVERFLOW;
    *need = n;
    return SSM_OK;
}

/* The verbs of any layer, from its tile functions and a call that names it. */
static ssm_status ssm__layer_forward(const ssm__verb *verb, ssm__call call, ssm_real *state, const ssm_real *x,
                                     ssm_real *y, const ssm_seqs *seqs, void *work, size_t work_bytes)
{
    if (!call.layer) return SSM_ERR_NULL;
    call.state = state;
    call.x = x;
    call.y = y;
    return ssm__run_forward(verb, &call, seqs, 0, work, work_bytes);
}

/* What every step checks. need: bytes of its scratch. */
static ssm_status ssm__step_open(const void *layer, const ssm_real *state, const ssm_real *x, const ssm_real *y,
                                 size_t streams, size_t d_model, size_t need, const void *work, size_t work_bytes)
{
    if (!layer || !state) return SSM_ERR_NULL;
    if (streams == 0) return SSM_OK;
    if (ssm__mul(streams, ssm__mul(d_model, sizeof(ssm_real))) == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    if (!x || !y) return SSM_ERR_NULL;
    return ssm__check_block(work, work_bytes, need);
}

/* A step by the tile function of forward: a tile of one row for each stream. */
static ssm_status ssm__layer_step(const ssm__verb *verb, ssm__call call, ssm_real *state, const ssm_real *x,
                                  ssm_real *y, size_t streams, void *work, size_t work_bytes)
{
    const size_t cap = ssm__step_rows(streams);
    const size_t need = call.layer ? verb->work(call.layer, cap, cap) : 0;
    ssm_status status = ssm__step_open(call.layer, state, x, y, streams, call.d_model, need, work, work_bytes);
    size_t seq;
    if (status != SSM_OK) return status;
    call.work = work;
    call.tile_rows = cap;
    call.tile.steps = 1;
    call.x_row = call.y_row = (ptrdiff_t)call.d_model;
    for (seq = 0; seq < streams; seq += cap) {
        call.tile.seq = call.tile.row = seq;
        call.tile.count = ssm__min(cap, streams - seq);
        call.state = state + seq * call.state_count;
        call.x = x + seq * call.d_model;
        call.y = y + seq * call.d_model;
        verb->tile(&call);
    }
    return SSM_OK;
}

static ssm_status ssm__layer_record(const ssm__verb *verb, ssm__call call, ssm_real *state, const ssm_real *x,
                                    ssm_real *y, const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work,
                                    size_t work_bytes)
{
    if (!call.layer) return SSM_ERR_NULL;
    if (!call.has_params) return SSM_ERR_UNSUPPORTED;
    call.state = state;
    call.x = x;
    call.y = y;
    call.tape = tape;
    return ssm__run_forward(verb, &call, seqs, tape_bytes, work, work_bytes);
}

static ssm_status ssm__layer_backward(const ssm__verb *verb, ssm__call call, ssm_real *dstate, const ssm_real *x,
                                      const ssm_real *dy, ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs,
                                      const void *tape, size_t tape_bytes, void *work, size_t work_bytes)
{
    if (!call.layer) return SSM_ERR_NULL;
    if (!call.has_params) return SSM_ERR_UNSUPPORTED;
    call.state = dstate;
    call.x = x;
    call.dy = dy;
    call.dx = dx;
    call.dparams = dparams;
    call.tape = (void *)(uintptr_t)tape;
    return ssm__run_backward(verb, &call, seqs, tape_bytes, work, work_bytes);
}

/*=============================================================================
 * >>bound
 *=============================================================================
 * What bind leaves: a header, then all that forward and step read, offsets in multiples of 64 bytes from
 * its start. One walk through a layer's weights serves three uses, so that they cannot disagree: counting,
 * filling (bind), and finding everything in a block filled before (attach).
 */
#define SSM__BOUND_ALIGN 64
#define SSM__BOUND_MAGIC 0x314d5353u /* "SSM1": version of the layout */

/* Words of the header, 32 bits each, lowest byte first. */
enum {
    SSM__BOUND_MAGIC_AT,
    SSM__BOUND_LAYOUT_AT,
    SSM__BOUND_WORDS_AT,
    SSM__BOUND_CHECK_AT,
    SSM__BOUND_HEADER
};

typedef struct ssm__binder {
    unsigned char *base; /* of the block; NULL while counting */
    size_t used;         /* bytes */
    uint32_t layout;
    const ssm_real *params; /* NULL while counting or attaching */
    void (*pack)(const ssm__matrix *m, size_t out, ssm_format format, void *packed); /* by a pointer: attach
                                                                                         must not link it */
} ssm__binder;

/* FNV-1a, a word at a time. */
static uint32_t ssm__hash(uint32_t hash, uint32_t word)
{
    return (hash ^ word) * 16777619u;
}

/* Word `at` of a block. By bytes, because what was written are reals, halves and bytes. */
static uint32_t ssm__word(const unsigned char *block, size_t at)
{
    block += 4 * at;
    return block[0] | (uint32_t)block[1] << 8 | (uint32_t)block[2] << 16 | (uint32_t)block[3] << 24;
}

static void ssm__set_word(unsigned char *block, size_t at, uint32_t word)
{
    size_t i;
    for (i = 0; i < 4; ++i) block[4 * at + i] = (unsigned char)(word >> 8 * i);
}

/* Of all words after the header. A changed word changes it: each acts on the hash one to one. */
static uint32_t ssm__bound_check(const unsigned char *block, size_t bytes)
{
    uint32_t hash = 2166136261u;
    size_t i;
    for (i = SSM__BOUND_HEADER; i < bytes / 4; ++i) hash = ssm__hash(hash, ssm__word(block, i));
    return hash;
}

/* What any block of this build has in common: size and byte order of its numbers, lanes. */
static uint32_t ssm__bound_build(void)
{
    ssm__float one;
    one.f = 1; /* 0x3f800000 */
    return ssm__hash(ssm__hash(ssm__hash(2166136261u, (uint32_t)sizeof(ssm_real)), SSM_LANES),
                     *(const unsigned char *)&one);
}

/* To count or to find; bind sets the rest. */
static ssm__binder ssm__binder_open(void *base)
{
    ssm__binder b;
    b.base = (unsigned char *)base;
    b.used = SSM__BOUND_ALIGN;
    b.layout = ssm__bound_build();
    b.params = NULL;
    b.pack = NULL;
    return b;
}

/* `bytes` of the block; *fill is where to write them, NULL unless filling. */
static const void *ssm__bind_take(ssm__binder *b, size_t bytes, void **fill)
{
    unsigned char *at = b->base ? b->base + b->used : NULL;
    b->used = ssm__add(b->used, ssm__mul(ssm__ceil_div(bytes, SSM__BOUND_ALIGN), SSM__BOUND_ALIGN));
    b->layout = ssm__hash(b->layout, (uint32_t)bytes);
    *fill = b->params ? at : NULL;
    return at;
}

static const ssm_real *ssm__bind_reals(ssm__binder *b, size_t count, ssm_real **fill)
{
    void *place;
    const void *at = ssm__bind_take(b, ssm__mul(count, sizeof(ssm_real)), &place);
    *fill = (ssm_real *)place;
    return (const ssm_real *)at;
}

static const ssm_real *ssm__param_at(const ssm_real *params, size_t offset)
{
    return params && offset != SSM__SIZE_MAX ? params + offset : NULL;
}

static ssm_real *ssm__grad_at(ssm_real *dparams, size_t offset)
{
    return dparams && offset != SSM__SIZE_MAX ? dparams + offset : NULL;
}

/* Bound copy of a parameter; NULL if it is absent, or while counting. */
static const ssm_real *ssm__bind_copy(ssm__binder *b, size_t offset, size_t count)
{
    const ssm_real *at;
    ssm_real *copy;
    if (offset == SSM__SIZE_MAX) return NULL;
    at = ssm__bind_reals(b, count, &copy);
    if (copy) ssm__copy(copy, b->params + offset, count);
    return at;
}

/* Something of the config that a block depends on though its sizes do not show it. */
static void ssm__bind_option(ssm__binder *b, size_t option)
{
    b->layout = ssm__hash(b->layout, (uint32_t)option);
}

/* Norm over `dim`; without weights, at offset (size_t)-1, none. */
static void ssm__bind_norm(ssm_norm *norm, ssm__binder *b, size_t weight, size_t dim, ssm_real eps)
{
    ssm__float bits;
    bits.f = weight == SSM__SIZE_MAX ? 0 : (float)eps;
    norm->dim = dim;
    norm->eps = eps;
    norm->weight = ssm__bind_copy(b, weight, dim);
    ssm__bind_option(b, bits.u);
}

/* A matrix without bias. m->at is called only when filling. */
static void ssm__bind_matrix(ssm_linear *l, ssm__binder *b, const ssm__matrix *m, size_t out, ssm_format format)
{
    void *packed;
    l->in = m->columns;
    l->out = out;
    l->format = format;
    l->weight = l->bias = NULL;
    l->packed = ssm__bind_take(b, ssm__packed_bytes(format, l->in, out), &packed);
    ssm__bind_option(b, (size_t)format);
    ssm__bind_option(b, out); /* whole panels do not show it, and with it n_groups */
    if (packed) b->pack(m, out, format, packed);
}

static void ssm__bind_linear(ssm_linear *l, ssm__binder *b, size_t weight, size_t bias, size_t in, size_t out,
                             ssm_format format)
{
    const ssm__matrix m = ssm__matrix_of(ssm__param_at(b->params, weight), in);
    ssm__bind_matrix(l, b, &m, out, format);
    l->weight = (const ssm_real *)m.source;
    l->bias = ssm__bind_copy(b, bias, out);
}

/* A layer's walk: shapes, and every pointer into the block. */
typedef void (*ssm__bind_walk)(void *layer, ssm__binder *b);

/* Bytes to ask the caller for: the block, and room to align its start. */
static size_t ssm__bound_bytes(ssm__bind_walk walk, void *layer)
{
    ssm__binder b = ssm__binder_open(NULL);
    walk(layer, &b);
    return ssm__add(b.used, SSM__BOUND_ALIGN - 1);
}

static ssm_status ssm__bind(ssm__bind_walk walk, void *layer, const ssm_real *params, void *mem, size_t mem_bytes,
                            ssm_bound *bound)
{
    const size_t slack = (size_t)((uintptr_t)mem % SSM__BOUND_ALIGN);
    const size_t need = ssm__bound_bytes(walk, layer);
    const ssm_status status = ssm__check_block(mem, mem_bytes, need);
    unsigned char *base;
    ssm__binder b;
    if (status != SSM_OK) return status;
    base = (unsigned char *)mem + (slack ? SSM__BOUND_ALIGN - slack : 0);
    b = ssm__binder_open(base);
    b.params = params;
    b.pack = ssm__pack;
    ssm__zero((ssm_real *)(void *)base, (need - (SSM__BOUND_ALIGN - 1)) / sizeof(ssm_real));
    walk(layer, &b);
    ssm__set_word(base, SSM__BOUND_MAGIC_AT, SSM__BOUND_MAGIC);
    ssm__set_word(base, SSM__BOUND_LAYOUT_AT, b.layout);
    ssm__set_word(base, SSM__BOUND_WORDS_AT, (uint32_t)(b.used / 4));
    ssm__set_word(base, SSM__BOUND_CHECK_AT, ssm__bound_check(base, b.used));
    bound->data = base;
    bound->bytes = b.used;
    return SSM_OK;
}

static ssm_status ssm__attach(ssm__bind_walk walk, void *layer, const void *data, size_t bytes, ssm_bound *bound)
{
    const unsigned char *base = (const unsigned char *)data;
    const size_t need = ssm__bound_bytes(walk, layer);
    ssm__binder b = ssm__binder_open((void *)(uintptr_t)data);
    if (!data) return SSM_ERR_NULL;
    if (need == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    if ((uintptr_t)data % sizeof(ssm_real) || bytes < need - (SSM__BOUND_ALIGN - 1)) return SSM_ERR_MEMORY;
    walk(layer, &b);
    if (ssm__word(base, SSM__BOUND_MAGIC_AT) != SSM__BOUND_MAGIC || ssm__word(base, SSM__BOUND_LAYOUT_AT) != b.layout ||
        ssm__word(base, SSM__BOUND_WORDS_AT) != (uint32_t)(b.used / 4) ||
        ssm__word(base, SSM__BOUND_CHECK_AT) != ssm__bound_check(base, b.used))
        return SSM_ERR_CONFIG;
    bound->data = data;
    bound->bytes = b.used;
    return SSM_OK;
}

/*=============================================================================
 * >>core
 *=============================================================================
 *   [dt | B | C] = x_proj u     delta = dt_proj dt (or dt itself, when dt_rank is 0)
 *   y = selective scan of (u, softplus(delta + dt_bias), A, B, C, D), gated by z
 */
typedef struct ssm__core_mem { /* what the forward leaves for the backward */
    ssm_real *dbc;             /* [rows][dt | B | C] */
    ssm_real *delta;           /* [rows][dim], before bias and softplus; NULL if dt_rank is 0 */
} ssm__core_mem;

/* CHUNKED and BLELLOCH need whole sequences. */
static int ssm__scan_needs_whole(ssm_scan scan)
{
    return scan == SSM_SCAN_CHUNKED || scan == SSM_SCAN_BLELLOCH;
}

static size_t ssm__core_dt_width(const ssm_core *core)
{
    return core->dt_rank ? core->dt_rank : 1;
}

static size_t ssm__core_width(const ssm_core *core)
{
    return ssm__add(ssm__core_dt_width(core), ssm__mul(2, ssm__mul(core->n_groups, core->d_state)));
}

static size_t ssm__core_state_count(const ssm_core *core)
{
    return ssm__mul(ssm__state_rows(core->disc, core->d_state), core->dim);
}

static size_t ssm__core_A_count(const ssm_core *core)
{
    return core->shared_A ? core->d_state : ssm__mul(core->d_state, core->dim);
}

static void ssm__core_take(const ssm_core *core, ssm__arena *arena, size_t rows, ssm__core_mem *mem)
{
    mem->dbc = ssm__take(arena, ssm__mul(rows, ssm__core_width(core)));
    mem->delta = core->dt_rank ? ssm__take(arena, ssm__mul(rows, core->dim)) : NULL;
}

/* The same memory from row `row` on. */
static ssm__core_mem ssm__core_mem_at(const ssm_core *core, ssm__core_mem mem, size_t row)
{
    mem.dbc += row * ssm__core_width(core);
    if (mem.delta) mem.delta += row * core->dim;
    return mem;
}

/* The walk through a core's weights. */
static void ssm__core_bind(void *layer, ssm__binder *b)
{
    ssm_core *core = (ssm_core *)layer;
    const ssm_core_offsets *o = &core->offsets;
    const size_t chans = core->shared_A ? 1 : core->dim, absent = SSM__SIZE_MAX;
    ssm_real *A;
    size_t c, n;
    ssm__bind_option(b, (size_t)core->disc);
    ssm__bind_linear(&core->x_proj, b, o->x_proj, absent, core->dim, ssm__core_width(core), core->format);
    if (core->dt_rank) ssm__bind_linear(&core->dt_proj, b, o->dt_proj, absent, core->dt_rank, core->dim, core->format);
    core->dt_bias = ssm__bind_copy(b, o->dt_bias, core->dt_rank ? core->dim : 1);
    core->D = ssm__bind_copy(b, o->D, core->dim);
    core->A = ssm__bind_reals(b, ssm__core_A_count(core) + 1, &A);
    for (c = 0; A && c < chans; ++c)
        for (n = 0; n < core->d_state; ++n) A[n * chans + c] = -ssm__exp(b->params[o->A_log + c * core->d_state + n]);
    if (A) A[ssm__core_A_count(core)] = ssm__scan_near(A, ssm__core_A_count(core), SSM__EXP2_NEAR);
}

/* A [row][channel] matrix of a tile as [sequence][step][channel]. */
static ssm_in ssm__tile_view(const ssm_real *data, const ssm__tile *t, ptrdiff_t row, size_t chan, size_t state)
{
    ssm_in v;
    v.data = data;
    v.batch = ssm__step(t->steps, row);
    v.time = row;
    v.chan = (ptrdiff_t)chan;
    v.state = (ptrdiff_t)state;
    return v;
}

/* The scan of one tile, all but the outputs. h: entering states [count], `h_batch` apart. */
static ssm_selective_scan ssm__core_scan(const ssm_core *core, const ssm__tile *t, ssm__core_mem mem, const ssm_real *u,
                                         ptrdiff_t u_row, const ssm_real *z, ptrdiff_t z_row, const ssm_real *h,
                                         size_t h_batch)
{
    static const ssm_selective_scan none = SSM__EMPTY;
    ssm_selective_scan s = none;
    const ptrdiff_t width = (ptrdiff_t)ssm__core_width(core);
    const ssm_real *B = mem.dbc + ssm__core_dt_width(core);
    s.batch = t->count;
    s.len = t->steps;
    s.dim = core->dim;
    s.d_state = core->d_state;
    s.B_groups = s.C_groups = core->n_groups;
    s.disc = core->disc;
    s.scan = core->scan;
    s.delta_softplus = 1;
    s.u = ssm__tile_view(u, t, u_row, 1, 0);
    s.z = ssm__tile_view(z, t, z_row, 1, 0);
    s.delta = core->dt_rank ? ssm__tile_view(mem.delta, t, (ptrdiff_t)core->dim, 1, 0)
                            : ssm__tile_view(mem.dbc, t, width, 0, 0);
    s.delta_bias = ssm__view(core->dt_bias, 0, 0, core->dt_rank ? 1 : 0, 0);
    s.B = ssm__tile_view(B, t, width, core->d_state, 1);
    s.C = ssm__tile_view(B + core->n_groups * core->d_state, t, width, core->d_state, 1);
    s.A = core->shared_A ? ssm__view(core->A, 0, 0, 0, 1) : ssm__view(core->A, 0, 0, 1, core->dim);
    s.D = ssm_in_c(core->D);
    s.h0 = ssm__view(h, h_batch, 0, 1, core->dim);
    return s;
}

/* y = scan, state in place. u, z: rows of dim (z may be NULL). */
static void ssm__core_forward(const ssm_core *core, const ssm__call *call, ssm__core_mem mem, const ssm_real *u,
                              ptrdiff_t u_row, const ssm_real *z, ptrdiff_t z_row, ssm_real *y, ptrdiff_t y_row,
                              ssm_real *h, size_t h_batch, void *scan_work)
{
    const ssm__tile *t = &call->tile;
    const size_t rows = t->count * t->steps;
    const ptrdiff_t width = (ptrdiff_t)ssm__core_width(core);
    ssm_selective_scan s;
    ssm__linear(call->parallel, &core->x_proj, u, u_row, NULL, 0, mem.dbc, width, rows);
    if (core->dt_rank)
        ssm__linear(call->parallel, &core->dt_proj, mem.dbc, width, NULL, 0, mem.delta, (ptrdiff_t)core->dim, rows);
    s = ssm__core_scan(core, t, mem, u, u_row, z, z_row, h, h_batch);
    s.h_last = ssm_out_like(h, s.h0);
    s.y = ssm_out_like(y, ssm__tile_view(NULL, t, y_row, 1, 0));
    s.parallel = call->parallel;
    ssm__scan(&s, scan_work);
}

/* Scratch of the forward's scan, for sequences of at most `rows` steps. */
static void *ssm__core_scan_take(const ssm_core *core, ssm__arena *arena, size_t rows)
{
    static const ssm_selective_scan none = SSM__EMPTY;
    ssm_real placeholder; /* the state is given, so that the scan needs none of its own */
    ssm_selective_scan s = none;
    s.len = rows;
    s.dim = core->dim;
    s.d_state = core->d_state;
    s.disc = core->disc;
    s.scan = core->scan;
    s.h_last.data = &placeholder;
    return ssm__take(arena, ssm__ceil_div(ssm__scan_forward_bytes(&s), sizeof(ssm_real)));
}

typedef struct ssm__core_scratch { /* of the backward */
    ssm__core_mem grad;            /* gradients of dbc and delta */
    ssm_real *dA;
    ssm_real *dh_last;
    void *scan;
} ssm__core_scratch;

static void ssm__core_scratch_take(const ssm_core *core, ssm__arena *arena, size_t rows, size_t streams,
                                   ssm__core_scratch *w)
{
    ssm_selective_scan s;
    ssm__scan_work scan;
    s.len = rows;
    s.disc = core->disc;
    s.d_state = core->d_state;
    ssm__core_take(core, arena, rows, &w->grad);
    w->dA = ssm__take(arena, ssm__core_A_count(core));
    w->dh_last = ssm__take(arena, ssm__mul(streams, ssm__core_state_count(core)));
    w->scan = ssm__take(arena, ssm__ceil_div(ssm__scan_layout(&s, NULL, &scan), sizeof(ssm_real)));
}

/* Moves the gradient of the leaving states to `last` and leaves zeros for those of the entering. */
static void ssm__take_dstate(ssm_real *dstate, size_t stride, size_t streams, size_t count, ssm_real *last)
{
    size_t b;
    for (b = 0; b < streams; ++b) {
        ssm__copy(last + b * count, dstate + b * stride, count);
        ssm__zero(dstate + b * stride, count);
    }
}

/* Adds to du, dz and the parameters; dh: gradient of the state, in place. dy: rows of dim. */
static void ssm__core_backward(const ssm_core *core, const ssm__call *call, ssm__core_mem mem, const ssm_real *u,
                               ptrdiff_t u_row, const ssm_real *z, ptrdiff_t z_row, const ssm_real *dy,
                               ptrdiff_t dy_row, ssm_real *du, ptrdiff_t du_row, ssm_real *dz, ptrdiff_t dz_row,
                               const ssm_real *h, ssm_real *dh, size_t h_batch, const ssm__core_scratch *w)
{
    static const ssm_selective_scan_grad none = SSM__EMPTY;
    const ssm_core_offsets *o = &core->offsets;
    const ssm__tile *t = &call->tile;
    ssm_real *dparams = call->dparams;
    const size_t rows = t->count * t->steps, state_count = ssm__core_state_count(core);
    const size_t chans = core->shared_A ? 1 : core->dim;
    const ptrdiff_t width = (ptrdiff_t)ssm__core_width(core), dim = (ptrdiff_t)core->dim;
    const ssm_selective_scan s = ssm__core_scan(core, t, mem, u, u_row, z, z_row, h, h_batch);
    ssm_selective_scan_grad d = none;
    ssm_real *dB = w->grad.dbc + ssm__core_dt_width(core), *dA_log = ssm__grad_at(dparams, o->A_log);
    size_t c, n;
    ssm__zero(w->grad.dbc, rows * ssm__core_width(core));
    if (w->grad.delta) ssm__zero(w->grad.delta, rows * core->dim);
    ssm__zero(w->dA, ssm__core_A_count(core));
    ssm__take_dstate(dh, h_batch, t->count, state_count, w->dh_last);
    d.dy = ssm__tile_view(dy, t, dy_row, 1, 0);
    d.dh_last = ssm__view(w->dh_last, state_count, 0, 1, core->dim);
    d.dh0 = ssm_out_like(dh, s.h0);
    d.du = ssm_out_like(du, ssm__tile_view(NULL, t, du_row, 1, 0));
    d.dz = ssm_out_like(dz, ssm__tile_view(NULL, t, dz_row, 1, 0));
    d.ddelta = ssm_out_like(core->dt_rank ? w->grad.delta : w->grad.dbc, s.delta);
    d.dB = ssm_out_like(dB, s.B);
    d.dC = ssm_out_like(dB + core->n_groups * core->d_state, s.C);
    d.dA = ssm_out_like(w->dA, s.A);
    d.dD = ssm_out_like(ssm__grad_at(dparams, o->D), s.D);
    d.ddelta_bias = ssm_out_like(ssm__grad_at(dparams, o->dt_bias), s.delta_bias);
    ssm__scan_backward(&s, &d, w->scan);
    for (c = 0; dA_log && c < chans; ++c) /* A = -exp(A_log): dA/dA_log = A */
        for (n = 0; n < core->d_state; ++n)
            dA_log[c * core->d_state + n] += w->dA[n * chans + c] * core->A[n * chans + c];
    if (core->dt_rank)
        ssm__linear_backward(call->parallel, &core->dt_proj, mem.dbc, width, w->grad.delta, dim, w->grad.dbc, width,
                             ssm__grad_at(dparams, o->dt_proj), NULL, rows);
    ssm__linear_backward(call->parallel, &core->x_proj, u, u_row, w->grad.dbc, width, du, du_row,
                         ssm__grad_at(dparams, o->x_proj), NULL, rows);
}

/* A table of one layer alone, in `rows`; for init. */
static ssm_params ssm__own_table(ssm_param *rows)
{
    ssm_params table;
    table.row = rows;
    table.capacity = rows ? SSM_PARAMS_MAX : 0;
    table.rows = 0;
    table.count = 0;
    return table;
}

/* How the delta projection starts. */
typedef struct ssm__dt_config {
    ssm_dt_init init;
    ssm_real min;
    ssm_real max;
    ssm_real floor;
    ssm_real scale;
    ssm_real bias;
} ssm__dt_config;

/* Rows x_proj.weight, dt_proj.weight, dt_proj.bias, A_log, D of a core with dt_rank > 0. */
static void ssm__core_params(ssm_core *core, const ssm__dt_config *dt, int no_dt_bias, const char *prefix,
                             ssm_params *table)
{
    ssm_core_offsets *o = &core->offsets;
    const ssm_real dt_bound = ssm__fan_in(core->dt_rank);
    o->x_proj = ssm__param_matrix(table, prefix, "x_proj.weight", ssm__core_width(core), core->dim, SSM__INIT_UNIFORM,
                                  ssm__fan_in(core->dim));
    o->dt_proj = ssm__param_matrix(table, prefix, "dt_proj.weight", core->dim, core->dt_rank, SSM__INIT_UNIFORM,
                                   dt_bound * dt->scale);
    o->dt_bias = SSM__SIZE_MAX;
    if (!no_dt_bias && dt->init == SSM_DT_UNIFORM)
        o->dt_bias = ssm__param_vector(table, prefix, "dt_proj.bias", core->dim, SSM__INIT_UNIFORM, dt_bound);
    else if (!no_dt_bias && dt->init == SSM_DT_CONSTANT)
        o->dt_bias = ssm__param_vector(table, prefix, "dt_proj.bias", core->dim, SSM__INIT_CONSTANT, dt->bias);
    else if (!no_dt_bias) {
        o->dt_bias = ssm__param_vector(table, prefix, "dt_proj.bias", core->dim, SSM__INIT_DT_BIAS, dt->min);
        ssm__param_args(table, dt->max, dt->floor);
    }
    o->A_log = ssm__param_matrix(table, prefix, "A_log", core->dim, core->d_state, SSM__INIT_A_INTEGER, 0);
    o->D = ssm__param_vector(table, prefix, "D", core->dim, SSM__INIT_CONSTANT, 1);
}

/* Fills the zeros of dt and checks it. */
static ssm_status ssm__dt_resolve(ssm__dt_config *dt)
{
    if ((unsigned)dt->init > (unsigned)SSM_DT_CONSTANT) return SSM_ERR_CONFIG;
    if (dt->min == 0) dt->min = SSM__K(0.001);
    if (dt->max == 0) dt->max = SSM__K(0.1);
    if (dt->floor == 0) dt->floor = SSM__K(1e-4);
    if (dt->scale == 0) dt->scale = 1;
    return dt->min > 0 && dt->max >= dt->min && dt->floor > 0 && dt->scale > 0 ? SSM_OK : SSM_ERR_CONFIG;
}

static ssm_status ssm__options_resolve(ssm_disc *disc, ssm_disc own, ssm_scan scan, ssm_format format)
{
    if (!ssm__disc_ok(*disc) || !ssm__scan_ok(scan) || !ssm__format_ok(format)) return SSM_ERR_CONFIG;
    if (*disc == SSM_DISC_DEFAULT) *disc = own;
    return SSM_OK;
}

static ssm_core ssm__core_shape(size_t dim, size_t d_state, size_t dt_rank, size_t n_groups, ssm_disc disc,
                                ssm_scan scan, ssm_format format)
{
    static const ssm_core none = SSM__EMPTY;
    ssm_core core = none;
    core.dim = dim;
    core.d_state = d_state;
    core.dt_rank = dt_rank;
    core.n_groups = n_groups;
    core.disc = disc;
    core.scan = scan;
    core.format = format;
    return core;
}

/* --- one step --- */
/* The arithmetic of a tile of one-step rows, a panel of channels at a time, so that next to nothing is kept
 * between the projections: [dt | B | C] of each row. */
typedef struct ssm__core_step {
    const ssm_core *core;
    size_t rows;
    ssm_real *dbc;     /* [rows][dt | B | C] */
    const ssm_real *u; /* [rows][dim] */
    ssm_real *y;       /* [rows][dim], may be u */
    ssm_real *h;       /* rows h_row apart */
    size_t h_row;
    const ssm_linear *gate; /* z = gate x; NULL: no gate */
    const ssm_real *x;      /* [rows][gate->in] */
    ssm__scan_rule rule;
} ssm__core_step;

/* Channels c .. c + count - 1 of one stream, or as many as are of one group: delta, without bias and
 * softplus, -> y before the gate. Returns their number. */
SSM__NOINLINE size_t ssm__core_step_lanes(const ssm__core_step *j, const ssm_real *dbc, size_t c, size_t count,
                                          const ssm_real *delta, const ssm_real *u, ssm__lanes h, ssm_real *y)
{
    const ssm_core *core = j->core;
    const size_t channels = core->dim / core->n_groups, N = core->d_state; /* channels of a group */
    ssm__scan_row row;
    size_t i;
    row.count = count = ssm__min(count, channels - c % channels);
    row.A = core->A + ssm__step(c, j->rule.A_chan);
    row.B = dbc + ssm__core_dt_width(core) + c / channels * N;
    row.C = row.B + core->n_groups * N;
    for (i = 0; i < count; ++i) {
        ssm_real raw = core->dt_rank ? delta[i] : *dbc;
        if (core->dt_bias) raw += core->dt_bias[core->dt_rank ? c + i : 0];
        row.u[i] = u[i];
        row.da[i] = row.db[i] = ssm__softplus(raw);
        row.lambda[i] = SSM__K(0.5);
    }
    ssm__scan_advance(&j->rule, &row, h, y);
    for (i = 0; i < count; ++i) y[i] += core->D[c + i] * row.u[i];
    return count;
}

/* SSM_LANES channels of all rows. */
static void ssm__core_step_panel(void *context, size_t index)
{
    const ssm__core_step *j = (const ssm__core_step *)context;
    const ssm_core *core = j->core;
    const size_t first = index * SSM_LANES, lanes = ssm__min(SSM_LANES, core->dim - first);
    ssm_real sums[SSM_LANES];
    size_t r, i;
    for (r = 0; r < SSM__STEP_ROWS(j->rows); ++r) {
        const ssm_real *dbc = j->dbc + r * core->x_proj.out, *u = j->u + r * core->dim + first;
        ssm_real *y = j->y + r * core->dim + first;
        ssm__lanes h;
        h.chan = 1;
        h.state = (ptrdiff_t)core->dim;
        if (core->dt_rank) ssm__linear_panel(&core->dt_proj, first, dbc, sums);
        for (i = 0; i < lanes;) {
            h.data = j->h + r * j->h_row + first + i;
            i += ssm__core_step_lanes(j, dbc, first + i, ssm__min(SSM__SCAN_LANES, lanes - i), sums + i, u + i, h,
                                      y + i);
        }
        if (!j->gate) continue;
        ssm__linear_panel(j->gate, first, j->x + r * j->gate->in, sums);
        for (i = 0; i < lanes; ++i) y[i] *= ssm__silu(sums[i]);
    }
}

SSM__NOINLINE void ssm__core_step_run(ssm__core_step *j)
{
    const ssm_core *core = j->core;
    j->rule.d_state = core->d_state;
    j->rule.disc = core->disc;
    j->rule.A = core->shared_A ? 1 : (ptrdiff_t)core->dim;
    j->rule.B = j->rule.C = 1;
    j->rule.A_chan = core->shared_A ? 0 : 1;
    j->rule.near = core->disc == SSM_DISC_EULER && !core->shared_A ? core->A[core->d_state * core->dim] : 0;
    ssm__linear(NULL, &core->x_proj, j->u, (ptrdiff_t)core->dim, NULL, 0, j->dbc, (ptrdiff_t)core->x_proj.out, j->rows);
    ssm__parallel(NULL, ssm__ceil_div(core->dim, SSM_LANES), j->rows * core->dim * core->d_state * 8,
                  ssm__core_step_panel, j);
}

/* --- a core as a layer of its own: the verbs of selective and S6 --- */
typedef struct ssm__core_tape {
    ssm__core_mem mem;
    ssm_real *state; /* [slots][state] entering states */
} ssm__core_tape;

static size_t ssm__core_layer_work(const void *layer, size_t rows, size_t streams)
{
    ssm__arena arena = ssm__arena_open(NULL);
    ssm__core_mem mem;
    (void)streams;
    ssm__core_scan_take((const ssm_core *)layer, &arena, rows);
    ssm__core_take((const ssm_core *)layer, &arena, rows, &mem);
    return ssm__arena_bytes(&arena);
}

static size_t ssm__core_layer_work_backward(const void *layer, size_t rows, size_t streams)
{
    ssm__arena arena = ssm__arena_open(NULL);
    ssm__core_scratch scratch;
    ssm__core_scratch_take((const ssm_core *)layer, &arena, rows, streams, &scratch);
    return ssm__arena_bytes(&arena);
}

static size_t ssm__core_tape_layout(const ssm_core *core, size_t rows, size_t slots, void *mem, ssm__core_tape *tape)
{
    ssm__arena arena = ssm__arena_open(mem);
    ssm__core_take(core, &arena, rows, &tape->mem);
    tape->state = ssm__take(&arena, ssm__mul(slots, ssm__core_state_count(core)));
    return ssm__arena_bytes(&arena);
}

static size_t ssm__core_layer_tape(const void *layer, size_t rows, size_t slots)
{
    ssm__core_tape tape;
    return ssm__core_tape_layout((const ssm_core *)layer, rows, slots, NULL, &tape);
}

static void ssm__core_layer_tile(const ssm__call *call)
{
    const ssm_core *core = (const ssm_core *)call->layer;
    const ssm__tile *t = &call->tile;
    const size_t rows = t->count * t->steps;
    ssm__arena arena = ssm__arena_open(call->work);
    void *scan_work = ssm__core_scan_take(core, &arena, rows);
    ssm__core_mem mem;
    if (call->tape) {
        ssm__core_tape tape;
        ssm__core_tape_layout(core, call->tape_rows, call->tape_slots, call->tape, &tape);
        mem = ssm__core_mem_at(core, tape.mem, t->row);
        ssm__copy(tape.state + t->slot * call->state_count, call->state, t->count * call->state_count);
    } else {
        ssm__core_take(core, &arena, rows, &mem);
    }
    ssm__core_forward(core, call, mem, call->x, call->x_row, NULL, 0, call->y, call->y_row, call->state,
                      call->state_count, scan_work);
}

static void ssm__core_layer_tile_backward(const ssm__call *call)
{
    const ssm_core *core = (const ssm_core *)call->layer;
    const ssm__tile *t = &call->tile;
    const size_t rows = t->count * t->steps;
    ssm__arena arena = ssm__arena_open(call->work);
    ssm__core_scratch scratch;
    ssm__core_tape tape;
    ssm__core_scratch_take(core, &arena, rows, t->count, &scratch);
    ssm__core_tape_layout(core, call->tape_rows, call->tape_slots, call->tape, &tape);
    ssm__core_backward(core, call, ssm__core_mem_at(core, tape.mem, t->row), call->x, call->x_row, NULL, 0, call->dy,
                       call->dy_row, call->dx, call->dx_row, NULL, 0, tape.state + t->slot * call->state_count,
                       call->state, call->state_count, &scratch);
}

static size_t ssm__core_step_work(const void *layer, size_t rows, size_t streams)
{
    (void)streams;
    return ssm__block_bytes(ssm__mul(rows, ((const ssm_core *)layer)->x_proj.out));
}

static const ssm__memory ssm__core_memory = {ssm__core_layer_work, ssm__core_step_work, ssm__core_layer_work_backward,
                                             ssm__core_layer_tape};

static ssm_status ssm__core_layer_step(const ssm_core *core, ssm_real *state, const ssm_real *x, ssm_real *y,
                                       size_t streams, void *work, size_t work_bytes)
{
    const size_t cap = ssm__step_rows(streams), dim = core ? core->dim : 0;
    const size_t need = core ? ssm__core_step_work(core, cap, cap) : 0;
    const ssm_status status = ssm__step_open(core, state, x, y, streams, dim, need, work, work_bytes);
    ssm__core_step j;
    if (status != SSM_OK || streams == 0) return status;
    j.core = core;
    j.dbc = ssm__block_start(work);
    j.u = x;
    j.y = y;
    j.h = state;
    j.h_row = ssm__core_state_count(core);
    j.gate = NULL;
    for (; streams > 0; streams -= j.rows) {
        j.rows = ssm__step_rows(streams);
        ssm__core_step_run(&j);
        j.u += j.rows * dim;
        j.y += j.rows * dim;
        j.h += j.rows * j.h_row;
    }
    return SSM_OK;
}

static const ssm__verb ssm__core_verb_forward = {ssm__core_layer_tile, ssm__core_layer_work, NULL};
static const ssm__verb ssm__core_verb_record = {ssm__core_layer_tile, ssm__core_layer_work, ssm__core_layer_tape};
static const ssm__verb ssm__core_verb_backward = {ssm__core_layer_tile_backward, ssm__core_layer_work_backward,
                                                  ssm__core_layer_tape};

static ssm__call ssm__core_call(const ssm_core *core)
{
    ssm__call call = ssm__call_of(core, core ? core->dim : 0, core ? ssm__core_state_count(core) : 0);
    call.whole = core && ssm__scan_needs_whole(core->scan);
    call.has_params = core && core->x_proj.weight;
    return call;
}

/*=============================================================================
 * >>layer-selective
 *===========================================================================*/
/* --- config --- */
SSM_API ssm_status ssm_selective_config_resolve(const ssm_selective_config *config, ssm_selective_config *resolved)
{
    ssm_selective_config c;
    ssm_status status;
    if (!config || !resolved) return SSM_ERR_NULL;
    c = *config;
    if (c.d_model == 0) return SSM_ERR_CONFIG;
    if (c.d_state == 0) c.d_state = 16;
    status = ssm__options_resolve(&c.disc, SSM_DISC_ZOH, c.scan, c.format);
    if (status == SSM_OK) status = ssm__disc_check(c.disc);
    if (status == SSM_OK) *resolved = c;
    return status;
}

/* --- weights: w_delta, w_b and w_c follow each other, so that together they are one x_proj --- */
static ssm_core ssm__selective_shape(const ssm_selective_config *c, const char *prefix, ssm_params *table)
{
    const ssm__init init_A = c->integer_A ? SSM__INIT_A_INTEGER : SSM__INIT_A_INVERSE;
    const ssm_real deviation = SSM__K(0.1);
    ssm_core core = ssm__core_shape(c->d_model, c->d_state, 0, 1, c->disc, c->scan, c->format);
    ssm_core_offsets *o = &core.offsets;
    core.shared_A = 1;
    o->x_proj = ssm__param_vector(table, prefix, "w_delta", c->d_model, SSM__INIT_NORMAL, deviation);
    ssm__param_decays(table); /* a weight, though it is a vector */
    ssm__param_matrix(table, prefix, "w_b", c->d_state, c->d_model, SSM__INIT_NORMAL, deviation);
    ssm__param_matrix(table, prefix, "w_c", c->d_state, c->d_model, SSM__INIT_NORMAL, deviation);
    o->dt_proj = SSM__SIZE_MAX;
    o->dt_bias = ssm__param_vector(table, prefix, "b_delta", 1, SSM__INIT_CONSTANT, 0);
    o->A_log = ssm__param_vector(table, prefix, "log_a", c->d_state, init_A, 0);
    o->D = ssm__param_vector(table, prefix, "d_skip", c->d_model, SSM__INIT_CONSTANT, 1);
    return core;
}

SSM_API ssm_status ssm_selective_params(const ssm_selective_config *config, const char *prefix, ssm_params *table)
{
    ssm_selective_config c;
    ssm_params copy;
    ssm_status status = ssm_selective_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    if (!table) return SSM_ERR_NULL;
    copy = *table;
    ssm__selective_shape(&c, prefix, &copy);
    return ssm__params_commit(table, &copy);
}

/* --- sizes --- */
static ssm__call ssm__selective_call(const ssm_selective *layer)
{
    return ssm__core_call(layer ? &layer->core : NULL);
}

SSM_API ssm_status ssm_selective_sizes(const ssm_selective_config *config, const ssm_seqs *seqs, ssm_sizes *need)
{
    ssm_params table = ssm__own_table(NULL);
    ssm_selective_config c;
    ssm_core core;
    ssm_status status = ssm_selective_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    core = ssm__selective_shape(&c, NULL, &table);
    return ssm__layer_sizes(&ssm__core_memory, ssm__core_call(&core), table.count,
                            ssm__bound_bytes(ssm__core_bind, &core), seqs, need);
}

/* --- init --- */
SSM_API ssm_status ssm_selective_init(const ssm_selective_config *config, ssm_real *params, uint64_t seed)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = ssm__own_table(rows);
    ssm_status status = ssm_selective_params(config, NULL, &table);
    return status == SSM_OK ? ssm_params_init(&table, params, seed) : status;
}

/* --- bind --- */
SSM_API ssm_status ssm_selective_bind(ssm_selective *layer, const ssm_selective_config *config, const ssm_real *params,
                                      void *mem, size_t mem_bytes)
{
    ssm_params table = ssm__own_table(NULL);
    ssm_selective bound;
    ssm_status status = ssm_selective_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer || !params) return SSM_ERR_NULL;
    bound.core = ssm__selective_shape(&bound.config, NULL, &table);
    status = ssm__bind(ssm__core_bind, &bound.core, params, mem, mem_bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

SSM_API ssm_status ssm_selective_attach(ssm_selective *layer, const ssm_selective_config *config, const void *data,
                                        size_t bytes)
{
    ssm_params table = ssm__own_table(NULL);
    ssm_selective bound;
    ssm_status status = ssm_selective_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer) return SSM_ERR_NULL;
    bound.core = ssm__selective_shape(&bound.config, NULL, &table);
    status = ssm__attach(ssm__core_bind, &bound.core, data, bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

/* --- forward, step --- */
SSM_API ssm_status ssm_selective_forward(const ssm_selective *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                         const ssm_seqs *seqs, void *work, size_t work_bytes)
{
    return ssm__layer_forward(&ssm__core_verb_forward, ssm__selective_call(layer), state, x, y, seqs, work, work_bytes);
}

SSM_API ssm_status ssm_selective_step(const ssm_selective *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                      size_t streams, void *work, size_t work_bytes)
{
    return ssm__core_layer_step(layer ? &layer->core : NULL, state, x, y, streams, work, work_bytes);
}

/* --- backward --- */
SSM_API ssm_status ssm_selective_record(const ssm_selective *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                        const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work,
                                        size_t work_bytes)
{
    return ssm__layer_record(&ssm__core_verb_record, ssm__selective_call(layer), state, x, y, seqs, tape, tape_bytes,
                             work, work_bytes);
}

SSM_API ssm_status ssm_selective_backward(const ssm_selective *layer, ssm_real *dstate, const ssm_real *x,
                                          const ssm_real *dy, ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs,
                                          const void *tape, size_t tape_bytes, void *work, size_t work_bytes)
{
    return ssm__layer_backward(&ssm__core_verb_backward, ssm__selective_call(layer), dstate, x, dy, dx, dparams, seqs,
                               tape, tape_bytes, work, work_bytes);
}

/* --- surgery --- */
SSM_API ssm_status ssm_selective_reinitialize_channel(const ssm_selective_config *config, ssm_real *params,
                                                      ssm_real *state, size_t streams, size_t channel, uint64_t seed)
{
    ssm_params table = ssm__own_table(NULL);
    const ssm_rng rng_start = {seed};
    ssm_rng rng = rng_start;
    ssm_selective_config c;
    ssm_core core;
    size_t row, n, count;
    ssm_status status = ssm_selective_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    if (!params) return SSM_ERR_NULL;
    if (channel >= c.d_model) return SSM_ERR_CONFIG;
    core = ssm__selective_shape(&c, NULL, &table);
    for (row = 0; row < ssm__core_width(&core); ++row) /* w_delta, then w_b, then w_c */
        params[core.offsets.x_proj + row * c.d_model + channel] = SSM__K(0.1) * ssm_rng_normal(&rng);
    params[core.offsets.D + channel] = 1;
    count = ssm__core_state_count(&core);
    for (n = channel; state && n < streams * count; n += c.d_model) state[n] = 0;
    return SSM_OK;
}

/*=============================================================================
 * >>layer-s6
 *===========================================================================*/
/* --- config --- */
SSM_API void ssm_s6_preset(ssm_s6_config *config, ssm_preset preset)
{
    if (preset == SSM_PRESET_ZETA) {
        config->dt_init = SSM_DT_UNIFORM;
    } else if (preset == SSM_PRESET_TRACETORCH) {
        config->disc = SSM_DISC_ZOH;
        config->dt_rank = config->d_model < 16 ? 1 : config->d_model / 16;
        config->dt_init = SSM_DT_CONSTANT;
        config->dt_bias = -2;
    } else if (preset == SSM_PRESET_ZERFOO) {
        config->no_dt_bias = 1;
        config->dt_scale = SSM__K(0.01);
    }
}

static ssm__dt_config ssm__s6_dt(const ssm_s6_config *c)
{
    ssm__dt_config dt;
    dt.init = c->dt_init;
    dt.min = c->dt_min;
    dt.max = c->dt_max;
    dt.floor = c->dt_floor;
    dt.scale = c->dt_scale;
    dt.bias = c->dt_bias;
    return dt;
}

SSM_API ssm_status ssm_s6_config_resolve(const ssm_s6_config *config, ssm_s6_config *resolved)
{
    ssm__dt_config dt;
    ssm_s6_config c;
    ssm_status status;
    if (!config || !resolved) return SSM_ERR_NULL;
    c = *config;
    if (c.d_model == 0) return SSM_ERR_CONFIG;
    if (c.d_state == 0) c.d_state = 16;
    if (c.dt_rank == 0) c.dt_rank = ssm__ceil_div(c.d_model, 16);
    if (c.n_groups == 0) c.n_groups = 1;
    if (c.d_model % c.n_groups) return SSM_ERR_CONFIG;
    dt = ssm__s6_dt(&c);
    status = ssm__dt_resolve(&dt);
    if (status == SSM_OK) status = ssm__options_resolve(&c.disc, SSM_DISC_EULER, c.scan, c.format);
    if (status == SSM_OK) status = ssm__disc_check(c.disc);
    if (status != SSM_OK) return status;
    c.dt_min = dt.min;
    c.dt_max = dt.max;
    c.dt_floor = dt.floor;
    c.dt_scale = dt.scale;
    *resolved = c;
    return SSM_OK;
}

/* --- weights --- */
static ssm_core ssm__s6_shape(const ssm_s6_config *c, const char *prefix, ssm_params *table)
{
    const ssm__dt_config dt = ssm__s6_dt(c);
    ssm_core core = ssm__core_shape(c->d_model, c->d_state, c->dt_rank, c->n_groups, c->disc, c->scan, c->format);
    ssm__core_params(&core, &dt, c->no_dt_bias, prefix, table);
    return core;
}

SSM_API ssm_status ssm_s6_params(const ssm_s6_config *config, const char *prefix, ssm_params *table)
{
    ssm_s6_config c;
    ssm_params copy;
    ssm_status status = ssm_s6_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    if (!table) return SSM_ERR_NULL;
    copy = *table;
    ssm__s6_shape(&c, prefix, &copy);
    return ssm__params_commit(table, &copy);
}

/* --- sizes --- */
static ssm__call ssm__s6_call(const ssm_s6 *layer)
{
    return ssm__core_call(layer ? &layer->core : NULL);
}

SSM_API ssm_status ssm_s6_sizes(const ssm_s6_config *config, const ssm_seqs *seqs, ssm_sizes *need)
{
    ssm_params table = ssm__own_table(NULL);
    ssm_s6_config c;
    ssm_core core;
    ssm_status status = ssm_s6_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    core = ssm__s6_shape(&c, NULL, &table);
    return ssm__layer_sizes(&ssm__core_memory, ssm__core_call(&core), table.count,
                            ssm__bound_bytes(ssm__core_bind, &core), seqs, need);
}

/* --- init --- */
SSM_API ssm_status ssm_s6_init(const ssm_s6_config *config, ssm_real *params, uint64_t seed)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = ssm__own_table(rows);
    ssm_status status = ssm_s6_params(config, NULL, &table);
    return status == SSM_OK ? ssm_params_init(&table, params, seed) : status;
}

/* --- bind --- */
SSM_API ssm_status ssm_s6_bind(ssm_s6 *layer, const ssm_s6_config *config, const ssm_real *params, void *mem,
                               size_t mem_bytes)
{
    ssm_params table = ssm__own_table(NULL);
    ssm_s6 bound;
    ssm_status status = ssm_s6_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer || !params) return SSM_ERR_NULL;
    bound.core = ssm__s6_shape(&bound.config, NULL, &table);
    status = ssm__bind(ssm__core_bind, &bound.core, params, mem, mem_bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

SSM_API ssm_status ssm_s6_attach(ssm_s6 *layer, const ssm_s6_config *config, const void *data, size_t bytes)
{
    ssm_params table = ssm__own_table(NULL);
    ssm_s6 bound;
    ssm_status status = ssm_s6_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer) return SSM_ERR_NULL;
    bound.core = ssm__s6_shape(&bound.config, NULL, &table);
    status = ssm__attach(ssm__core_bind, &bound.core, data, bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

/* --- forward, step --- */
SSM_API ssm_status ssm_s6_forward(const ssm_s6 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  const ssm_seqs *seqs, void *work, size_t work_bytes)
{
    return ssm__layer_forward(&ssm__core_verb_forward, ssm__s6_call(layer), state, x, y, seqs, work, work_bytes);
}

SSM_API ssm_status ssm_s6_step(const ssm_s6 *layer, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                               void *work, size_t work_bytes)
{
    return ssm__core_layer_step(layer ? &layer->core : NULL, state, x, y, streams, work, work_bytes);
}

/* --- backward --- */
SSM_API ssm_status ssm_s6_record(const ssm_s6 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                 const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes)
{
    return ssm__layer_record(&ssm__core_verb_record, ssm__s6_call(layer), state, x, y, seqs, tape, tape_bytes, work,
                             work_bytes);
}

SSM_API ssm_status ssm_s6_backward(const ssm_s6 *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                   ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                   size_t tape_bytes, void *work, size_t work_bytes)
{
    return ssm__layer_backward(&ssm__core_verb_backward, ssm__s6_call(layer), dstate, x, dy, dx, dparams, seqs, tape,
                               tape_bytes, work, work_bytes);
}

/*=============================================================================
 * >>layer-mamba
 *===========================================================================*/
/* --- config --- */
/* What the block has in common with S6: the core's options. */
static ssm_s6_config ssm__mamba_inner(const ssm_mamba_config *c)
{
    ssm_s6_config s;
    s.d_model = c->d_inner;
    s.d_state = c->d_state;
    s.dt_rank = c->dt_rank;
    s.n_groups = c->n_groups;
    s.disc = c->disc;
    s.scan = c->scan;
    s.format = c->format;
    s.no_dt_bias = c->no_dt_bias;
    s.dt_init = c->dt_init;
    s.dt_min = c->dt_min;
    s.dt_max = c->dt_max;
    s.dt_floor = c->dt_floor;
    s.dt_scale = c->dt_scale;
    s.dt_bias = c->dt_bias;
    return s;
}

static void ssm__mamba_set_inner(ssm_mamba_config *c, const ssm_s6_config *s)
{
    c->d_state = s->d_state;
    c->dt_rank = s->dt_rank;
    c->n_groups = s->n_groups;
    c->disc = s->disc;
    c->no_dt_bias = s->no_dt_bias;
    c->dt_init = s->dt_init;
    c->dt_min = s->dt_min;
    c->dt_max = s->dt_max;
    c->dt_floor = s->dt_floor;
    c->dt_scale = s->dt_scale;
    c->dt_bias = s->dt_bias;
}

SSM_API void ssm_mamba_preset(ssm_mamba_config *config, ssm_preset preset)
{
    ssm_s6_config inner = ssm__mamba_inner(config);
    inner.d_model = config->d_model; /* the rule for dt_rank counts d_model */
    ssm_s6_preset(&inner, preset);
    ssm__mamba_set_inner(config, &inner);
    if (preset == SSM_PRESET_TRACETORCH) {
        config->expand = 1;
        config->mean_conv = 1;
        config->residual = 1;
    }
}

SSM_API ssm_status ssm_mamba_config_resolve(const ssm_mamba_config *config, ssm_mamba_config *resolved)
{
    ssm_mamba_config c;
    ssm_s6_config inner;
    ssm_status status;
    if (!config || !resolved) return SSM_ERR_NULL;
    c = *config;
    if (c.d_model == 0 || !(c.norm_eps >= 0)) return SSM_ERR_CONFIG;
    if (c.d_conv == 0) c.d_conv = 4;
    if (c.expand == 0) c.expand = 2;
    if (c.d_inner == 0) c.d_inner = ssm__mul(c.expand, c.d_model);
    if (c.dt_rank == 0) c.dt_rank = ssm__ceil_div(c.d_model, 16);
    if (c.norm_eps == 0) c.norm_eps = SSM__K(1e-5);
    inner = ssm__mamba_inner(&c);
    status = ssm_s6_config_resolve(&inner, &inner);
    if (status != SSM_OK) return status;
    ssm__mamba_set_inner(&c, &inner);
    *resolved = c;
    return SSM_OK;
}

/* --- weights --- */
typedef struct ssm__mamba_offsets {
    size_t norm;
    size_t in_weight;
    size_t in_bias;
    size_t conv_weight;
    size_t conv_bias;
    size_t out_weight;
    size_t out_bias;
} ssm__mamba_offsets;

/* Describes the block's parameters and fills in the core's shape. */
static ssm__mamba_offsets ssm__mamba_table(const ssm_mamba_config *c, ssm_core *core, const char *prefix,
                                           ssm_params *table)
{
    const ssm_s6_config inner = ssm__mamba_inner(c);
    const size_t M = c->d_model, E = c->d_inner, K = c->d_conv, absent = SSM__SIZE_MAX;
    const ssm__init conv_init = c->mean_conv ? SSM__INIT_CONSTANT : SSM__INIT_UNIFORM;
    ssm__mamba_offsets o;
    o.norm = o.in_bias = o.conv_weight = o.conv_bias = o.out_bias = absent;
    if (c->pre_norm) o.norm = ssm__param_vector(table, prefix, "norm.weight", M, SSM__INIT_CONSTANT, 1);
    o.in_weight =
        ssm__param_matrix(table, prefix, "in_proj.weight", ssm__mul(2, E), M, SSM__INIT_UNIFORM, ssm__fan_in(M));
    if (c->proj_bias)
        o.in_bias = ssm__param_vector(table, prefix, "in_proj.bias", ssm__mul(2, E), SSM__INIT_UNIFORM, ssm__fan_in(M));
    if (K > 1)
        o.conv_weight = ssm__param(table, prefix, "conv1d.weight", 3, E, 1, K, conv_init,
                                   c->mean_conv ? 1 / (ssm_real)K : ssm__fan_in(K));
    if (K > 1 && !c->no_conv_bias)
        o.conv_bias = ssm__param_vector(table, prefix, "conv1d.bias", E, conv_init, c->mean_conv ? 0 : ssm__fan_in(K));
    *core = ssm__s6_shape(&inner, prefix, table);
    o.out_weight = ssm__param_matrix(table, prefix, "out_proj.weight", M, E, SSM__INIT_UNIFORM, ssm__fan_in(E));
    if (c->proj_bias)
        o.out_bias = ssm__param_vector(table, prefix, "out_proj.bias", M, SSM__INIT_UNIFORM, ssm__fan_in(E));
    return o;
}

SSM_API ssm_status ssm_mamba_params(const ssm_mamba_config *config, const char *prefix, ssm_params *table)
{
    ssm_mamba_config c;
    ssm_params copy;
    ssm_core core;
    ssm_status status = ssm_mamba_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    if (!table) return SSM_ERR_NULL;
    copy = *table;
    ssm__mamba_table(&c, &core, prefix, &copy);
    return ssm__params_commit(table, &copy);
}

/* --- sizes --- */
static size_t ssm__mamba_conv_count(const ssm_mamba_config *c)
{
    return ssm__mul(c->d_conv - 1, c->d_inner);
}

/* What the forward leaves for the backward, for `rows` rows. */
typedef struct ssm__mamba_mem {
    ssm_real *xz; /* [rows][2E] */
    ssm_real *u;  /* [rows][E] after convolution and SiLU */
    ssm_real *s;  /* [rows][E] gated scan output */
    ssm__core_mem core;
} ssm__mamba_mem;

typedef struct ssm__mamba_tape {
    ssm__mamba_mem mem;
    ssm_real *state; /* [slots][state] entering states */
} ssm__mamba_tape;

typedef struct ssm__mamba_scratch { /* of the backward */
    ssm_real *x;                    /* [rows][M] normalised input */
    ssm_real *dx;                   /* [rows][M] its gradient */
    ssm_real *dxz;                  /* [rows][2E] */
    ssm_real *du;                   /* [rows][E] */
    ssm_real *ds;                   /* [rows][E] */
    ssm_real *dconv;                /* [streams][K-1][E] */
    ssm__core_scratch core;
} ssm__mamba_scratch;

static void ssm__mamba_take(const ssm_mamba *m, ssm__arena *arena, size_t rows, ssm__mamba_mem *mem)
{
    const size_t E = m->config.d_inner;
    mem->xz = ssm__take(arena, ssm__mul(rows, ssm__mul(2, E)));
    mem->u = ssm__take(arena, ssm__mul(rows, E));
    mem->s = ssm__take(arena, ssm__mul(rows, E));
    ssm__core_take(&m->core, arena, rows, &mem->core);
}

static size_t ssm__mamba_work_layout(const ssm_mamba *m, size_t rows, void *work, ssm__mamba_mem *mem,
                                     ssm_real **normed, void **scan)
{
    ssm__arena arena = ssm__arena_open(work);
    *scan = ssm__core_scan_take(&m->core, &arena, rows);
    ssm__mamba_take(m, &arena, rows, mem);
    *normed = m->config.pre_norm ? ssm__take(&arena, ssm__mul(rows, m->config.d_model)) : NULL;
    return ssm__arena_bytes(&arena);
}

static size_t ssm__mamba_tape_layout(const ssm_mamba *m, size_t rows, size_t slots, void *mem, ssm__mamba_tape *tape)
{
    ssm__arena arena = ssm__arena_open(mem);
    ssm__mamba_take(m, &arena, rows, &tape->mem);
    tape->state = ssm__take(&arena, ssm__mul(slots, m->states));
    return ssm__arena_bytes(&arena);
}

static size_t ssm__mamba_scratch_layout(const ssm_mamba *m, size_t rows, size_t streams, void *work,
                                        ssm__mamba_scratch *s)
{
    const size_t M = m->config.d_model, E = m->config.d_inner;
    ssm__arena arena = ssm__arena_open(work);
    s->x = m->config.pre_norm ? ssm__take(&arena, ssm__mul(rows, M)) : NULL;
    s->dx = m->config.pre_norm ? ssm__take(&arena, ssm__mul(rows, M)) : NULL;
    s->dxz = ssm__take(&arena, ssm__mul(rows, ssm__mul(2, E)));
    s->du = ssm__take(&arena, ssm__mul(rows, E));
    s->ds = ssm__take(&arena, ssm__mul(rows, E));
    s->dconv = ssm__take(&arena, ssm__mul(streams, ssm__mamba_conv_count(&m->config)));
    ssm__core_scratch_take(&m->core, &arena, rows, streams, &s->core);
    return ssm__arena_bytes(&arena);
}

static size_t ssm__mamba_work(const void *layer, size_t rows, size_t streams)
{
    ssm__mamba_mem mem;
    ssm_real *normed;
    void *scan;
    (void)streams;
    return ssm__mamba_work_layout((const ssm_mamba *)layer, rows, NULL, &mem, &normed, &scan);
}

static size_t ssm__mamba_work_backward(const void *layer, size_t rows, size_t streams)
{
    ssm__mamba_scratch scratch;
    return ssm__mamba_scratch_layout((const ssm_mamba *)layer, rows, streams, NULL, &scratch);
}

static size_t ssm__mamba_tape_bytes(const void *layer, size_t rows, size_t slots)
{
    ssm__mamba_tape tape;
    return ssm__mamba_tape_layout((const ssm_mamba *)layer, rows, slots, NULL, &tape);
}

/* The walk through the block's weights, from its resolved config. */
static void ssm__mamba_bind(void *layer, ssm__binder *b)
{
    ssm_mamba *m = (ssm_mamba *)layer;
    const ssm_mamba_config *c = &m->config;
    const size_t M = c->d_model, E = c->d_inner, K = c->d_conv, absent = SSM__SIZE_MAX;
    ssm_params table = ssm__own_table(NULL);
    const ssm__mamba_offsets o = ssm__mamba_table(c, &m->core, NULL, &table);
    ssm_real *conv;
    size_t k, e;
    ssm__bind_option(b, c->residual != 0);
    ssm__bind_norm(&m->norm, b, o.norm, M, c->norm_eps);
    ssm__bind_linear(&m->in_u, b, o.in_weight, o.in_bias, M, E, c->format);
    ssm__bind_linear(&m->in_z, b, o.in_weight + E * M, o.in_bias == absent ? absent : o.in_bias + E, M, E, c->format);
    m->conv_weight = ssm__bind_reals(b, ssm__mul(K, E), &conv); /* no convolution: one tap of weight 1 */
    for (k = 0; conv && k < K; ++k)
        for (e = 0; e < E; ++e) conv[k * E + e] = K > 1 ? b->params[o.conv_weight + e * K + k] : 1;
    m->conv_bias = ssm__bind_copy(b, o.conv_bias, E);
    ssm__core_bind(&m->core, b);
    ssm__bind_linear(&m->out_proj, b, o.out_weight, o.out_bias, E, M, c->format);
    m->states = ssm__add(ssm__mamba_conv_count(c), ssm__core_state_count(&m->core));
    m->scratch = ssm__add(E, ssm__add(m->core.x_proj.out, c->pre_norm ? M : 0));
}

static void ssm__mamba_tile(const ssm__call *call);
static void ssm__mamba_tile_backward(const ssm__call *call);

static const ssm__verb ssm__mamba_verb_forward = {ssm__mamba_tile, ssm__mamba_work, NULL};
static const ssm__verb ssm__mamba_verb_record = {ssm__mamba_tile, ssm__mamba_work, ssm__mamba_tape_bytes};
static const ssm__verb ssm__mamba_verb_backward = {ssm__mamba_tile_backward, ssm__mamba_work_backward,
                                                   ssm__mamba_tape_bytes};

static ssm__call ssm__mamba_call(const ssm_mamba *layer)
{
    ssm__call call = ssm__call_of(layer, layer ? layer->config.d_model : 0, layer ? layer->states : 0);
    call.whole = layer && ssm__scan_needs_whole(layer->config.scan);
    call.has_params = layer && layer->out_proj.weight;
    return call;
}

/* Scratch of a step: [rows][E] u, which becomes the gated scan output in place, [rows][dt | B | C], and
 * [rows][M] normalised input if pre_norm. */
static size_t ssm__mamba_step_work(const void *layer, size_t rows, size_t streams)
{
    (void)streams;
    return ssm__block_bytes(ssm__mul(rows, ((const ssm_mamba *)layer)->scratch));
}

static const ssm__memory ssm__mamba_memory = {ssm__mamba_work, ssm__mamba_step_work, ssm__mamba_work_backward,
                                              ssm__mamba_tape_bytes};

SSM_API ssm_status ssm_mamba_sizes(const ssm_mamba_config *config, const ssm_seqs *seqs, ssm_sizes *need)
{
    ssm_params table = ssm__own_table(NULL);
    ssm_mamba m;
    size_t bound;
    ssm_status status = ssm_mamba_config_resolve(config, &m.config);
    if (status != SSM_OK) return status;
    ssm__mamba_table(&m.config, &m.core, NULL, &table);
    bound = ssm__bound_bytes(ssm__mamba_bind, &m);
    return ssm__layer_sizes(&ssm__mamba_memory, ssm__mamba_call(&m), table.count, bound, seqs, need);
}

/* --- init --- */
SSM_API ssm_status ssm_mamba_init(const ssm_mamba_config *config, ssm_real *params, uint64_t seed)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = ssm__own_table(rows);
    ssm_status status = ssm_mamba_params(config, NULL, &table);
    return status == SSM_OK ? ssm_params_init(&table, params, seed) : status;
}

/* --- bind --- */
SSM_API ssm_status ssm_mamba_bind(ssm_mamba *layer, const ssm_mamba_config *config, const ssm_real *params, void *mem,
                                  size_t mem_bytes)
{
    ssm_mamba bound;
    ssm_status status = ssm_mamba_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer || !params) return SSM_ERR_NULL;
    status = ssm__bind(ssm__mamba_bind, &bound, params, mem, mem_bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

SSM_API ssm_status ssm_mamba_attach(ssm_mamba *layer, const ssm_mamba_config *config, const void *data, size_t bytes)
{
    ssm_mamba bound;
    ssm_status status = ssm_mamba_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer) return SSM_ERR_NULL;
    status = ssm__attach(ssm__mamba_bind, &bound, data, bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

/* --- forward, step --- */
/* The convolution of one tile, all but its outputs: x part of xz, SiLU after. Without convolution,
 * one tap of weight 1. state: entering, `state_count` apart. */
static ssm_conv ssm__mamba_conv(const ssm_mamba *m, const ssm__tile *t, const ssm_real *xz, const ssm_real *state,
                                size_t state_count)
{
    static const ssm_conv none = SSM__EMPTY;
    const size_t E = m->config.d_inner;
    ssm_conv s = none;
    s.batch = t->count;
    s.len = t->steps;
    s.dim = E;
    s.width = m->config.d_conv;
    s.silu = 1;
    s.x = ssm__tile_view(xz, t, (ptrdiff_t)(2 * E), 1, 0);
    s.weight = ssm__view(m->conv_weight, 0, 0, 1, E);
    s.bias = ssm_in_c(m->conv_bias);
    s.state = ssm__view(state, state_count, 0, 1, E);
    return s;
}

static ssm__mamba_mem ssm__mamba_mem_at(const ssm_mamba *m, ssm__mamba_mem mem, size_t row)
{
    const size_t E = m->config.d_inner;
    mem.xz += row * 2 * E;
    mem.u += row * E;
    mem.s += row * E;
    mem.core = ssm__core_mem_at(&m->core, mem.core, row);
    return mem;
}

static void ssm__mamba_tile(const ssm__call *call)
{
    const ssm_mamba *m = (const ssm_mamba *)call->layer;
    const ssm__tile *t = &call->tile;
    const size_t E = m->config.d_inner, rows = t->count * t->steps, states = call->state_count;
    const ptrdiff_t E_row = (ptrdiff_t)E, xz_row = 2 * E_row;
    const ssm_real *x = call->x;
    ptrdiff_t x_row = call->x_row;
    ssm__mamba_mem mem;
    ssm_real *normed;
    void *scan;
    ssm_conv conv;
    ssm__mamba_work_layout(m, rows, call->work, &mem, &normed, &scan);
    if (call->tape) {
        ssm__mamba_tape tape;
        ssm__mamba_tape_layout(m, call->tape_rows, call->tape_slots, call->tape, &tape);
        mem = ssm__mamba_mem_at(m, tape.mem, t->row);
        ssm__copy(tape.state + t->slot * states, call->state, t->count * states);
    }
    if (normed) {
        ssm__norm(&m->norm, x, x_row, normed, (ptrdiff_t)m->config.d_model, rows);
        x = normed;
        x_row = (ptrdiff_t)m->config.d_model;
    }
    ssm__linear(call->parallel, &m->in_u, x, x_row, NULL, 0, mem.xz, xz_row, rows);
    ssm__linear(call->parallel, &m->in_z, x, x_row, NULL, 0, mem.xz + E, xz_row, rows);
    conv = ssm__mamba_conv(m, t, mem.xz, call->state, states);
    conv.state_last = ssm_out_like(call->state, conv.state);
    conv.y = ssm_out_like(mem.u, ssm__tile_view(NULL, t, E_row, 1, 0));
    conv.parallel = call->parallel;
    ssm__conv(&conv);
    ssm__core_forward(&m->core, call, mem.core, mem.u, E_row, mem.xz + E, xz_row, mem.s, E_row,
                      call->state + ssm__mamba_conv_count(&m->config), states, scan);
    ssm__linear(call->parallel, &m->out_proj, mem.s, E_row, m->config.residual ? call->x : NULL, call->x_row, call->y,
                call->y_row, rows);
}

static void ssm__mamba_tile_backward(const ssm__call *call)
{
    const ssm_mamba *m = (const ssm_mamba *)call->layer;
    const ssm__tile *t = &call->tile;
    const size_t M = m->config.d_model, E = m->config.d_inner, rows = t->count * t->steps;
    const size_t states = call->state_count, conv_count = ssm__mamba_conv_count(&m->config);
    const ptrdiff_t M_row = (ptrdiff_t)M, E_row = (ptrdiff_t)E, xz_row = 2 * E_row;
    static const ssm_conv_grad none = SSM__EMPTY;
    ssm_params table = ssm__own_table(NULL);
    ssm_core core;
    const ssm__mamba_offsets o = ssm__mamba_table(&m->config, &core, NULL, &table);
    const ssm_real *x = call->x, *entering;
    ssm_real *dx = call->dx, *dw = ssm__grad_at(call->dparams, o.conv_weight), *db;
    ptrdiff_t x_row = call->x_row, dx_row = call->dx_row;
    ssm__mamba_tape tape;
    ssm__mamba_scratch w;
    ssm__mamba_mem mem;
    ssm_conv_grad d = none;
    ssm_conv conv;
    size_t r, i;
    ssm__mamba_tape_layout(m, call->tape_rows, call->tape_slots, call->tape, &tape);
    ssm__mamba_scratch_layout(m, rows, t->count, call->work, &w);
    mem = ssm__mamba_mem_at(m, tape.mem, t->row);
    entering = tape.state + t->slot * states;
    /* out_proj, residual */
    ssm__zero(w.ds, rows * E);
    ssm__linear_backward(call->parallel, &m->out_proj, mem.s, E_row, call->dy, call->dy_row, w.ds, E_row,
                         ssm__grad_at(call->dparams, o.out_weight), ssm__grad_at(call->dparams, o.out_bias), rows);
    for (r = 0; dx && m->config.residual && r < rows; ++r)
        for (i = 0; i < M; ++i)
            dx[ssm__step(r, dx_row) + (ptrdiff_t)i] += call->dy[ssm__step(r, call->dy_row) + (ptrdiff_t)i];
    /* core */
    ssm__zero(w.du, rows * E);
    ssm__zero(w.dxz, rows * 2 * E);
    ssm__core_backward(&m->core, call, mem.core, mem.u, E_row, mem.xz + E, xz_row, w.ds, E_row, w.du, E_row, w.dxz + E,
                       xz_row, entering + conv_count, call->state + conv_count, states, &w.core);
    /* convolution */
    ssm__take_dstate(call->state, states, t->count, conv_count, w.dconv);
    conv = ssm__mamba_conv(m, t, mem.xz, entering, states);
    d.dy = ssm__tile_view(w.du, t, E_row, 1, 0);
    d.dstate_last = ssm__view(w.dconv, conv_count, 0, 1, E);
    d.dx = ssm_out_like(w.dxz, conv.x);
    d.dstate = ssm_out_like(call->state, conv.state);
    d.dweight = ssm_out_like(dw, ssm_in_cn(NULL, m->config.d_conv));
    d.dbias = ssm_out_like(ssm__grad_at(call->dparams, o.conv_bias), conv.bias);
    ssm__conv_backward(&conv, &d);
    /* in_proj, norm */
    if (m->config.pre_norm) {
        ssm__norm(&m->norm, x, x_row, w.x, M_row, rows);
        ssm__zero(w.dx, rows * M);
        x = w.x;
        dx = w.dx;
        x_row = dx_row = M_row;
    }
    dw = ssm__grad_at(call->dparams, o.in_weight);
    db = ssm__grad_at(call->dparams, o.in_bias);
    ssm__linear_backward(call->parallel, &m->in_u, x, x_row, w.dxz, xz_row, dx, dx_row, dw, db, rows);
    ssm__linear_backward(call->parallel, &m->in_z, x, x_row, w.dxz + E, xz_row, dx, dx_row, dw ? dw + E * M : NULL,
                         db ? db + E : NULL, rows);
    if (m->config.pre_norm)
        ssm__norm_backward(&m->norm, call->x, call->x_row, w.dx, M_row, call->dx, call->dx_row,
                           ssm__grad_at(call->dparams, o.norm), rows);
}

SSM_API ssm_status ssm_mamba_forward(const ssm_mamba *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                     const ssm_seqs *seqs, void *work, size_t work_bytes)
{
    return ssm__layer_forward(&ssm__mamba_verb_forward, ssm__mamba_call(layer), state, x, y, seqs, work, work_bytes);
}

/* One step of the convolution and its SiLU for one stream, u in place; the state moves up by one. */
SSM__NOINLINE void ssm__mamba_step_conv(const ssm_mamba *m, ssm_real *state, ssm_real *u)
{
    const size_t E = m->config.d_inner, last = (m->config.d_conv - 1) * E;
    size_t e, k;
    for (e = 0; e < E; ++e) {
        const ssm_real *w = m->conv_weight + e;
        ssm_real sum = m->conv_bias ? m->conv_bias[e] : 0;
        for (k = 0; k < last; k += E) {
            sum += w[k] * state[k + e];
            state[k + e] = k + E < last ? state[k + E + e] : u[e];
        }
        u[e] = ssm__silu(sum + w[last] * u[e]);
    }
}

/* One step of `rows` streams. */
SSM__NOINLINE void ssm__mamba_step_run(const ssm_mamba *m, ssm_real *state, const ssm_real *x, ssm_real *y, size_t rows,
                                       ssm_real *u)
{
    const size_t M = m->config.d_model, E = m->config.d_inner, conv = (m->config.d_conv - 1) * E;
    const ptrdiff_t M_row = (ptrdiff_t)M, E_row = (ptrdiff_t)E;
    ssm__core_step j;
    size_t r;
    j.core = &m->core;
    j.rows = rows;
    j.dbc = u + rows * E;
    j.u = j.y = u;
    j.h = state + conv;
    j.h_row = m->states;
    j.gate = &m->in_z;
    j.x = x;
    if (m->config.pre_norm) {
        ssm_real *normed = j.dbc + rows * m->core.x_proj.out;
        ssm__norm(&m->norm, x, M_row, normed, M_row, rows);
        j.x = normed;
    }
    ssm__linear(NULL, &m->in_u, j.x, M_row, NULL, 0, u, E_row, rows);
    for (r = 0; r < SSM__STEP_ROWS(rows); ++r) ssm__mamba_step_conv(m, state + r * m->states, u + r * E);
    ssm__core_step_run(&j);
    ssm__linear(NULL, &m->out_proj, u, E_row, m->config.residual ? x : NULL, M_row, y, M_row, rows);
}

SSM_API ssm_status ssm_mamba_step(const ssm_mamba *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  size_t streams, void *work, size_t work_bytes)
{
    const size_t cap = ssm__step_rows(streams), M = layer ? layer->config.d_model : 0;
    const size_t need = layer ? ssm__mamba_step_work(layer, cap, cap) : 0;
    const ssm_status status = ssm__step_open(layer, state, x, y, streams, M, need, work, work_bytes);
    size_t rows;
    for (; status == SSM_OK && streams > 0; streams -= rows) {
        rows = ssm__step_rows(streams);
        ssm__mamba_step_run(layer, state, x, y, rows, ssm__block_start(work));
        state += rows * layer->states;
        x += rows * M;
        y += rows * M;
    }
    return status;
}

SSM_API ssm_status ssm_mamba_record(const ssm_mamba *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                    const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes)
{
    return ssm__layer_record(&ssm__mamba_verb_record, ssm__mamba_call(layer), state, x, y, seqs, tape, tape_bytes, work,
                             work_bytes);
}

SSM_API ssm_status ssm_mamba_backward(const ssm_mamba *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                      ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                      size_t tape_bytes, void *work, size_t work_bytes)
{
    return ssm__layer_backward(&ssm__mamba_verb_backward, ssm__mamba_call(layer), dstate, x, dy, dx, dparams, seqs,
                               tape, tape_bytes, work, work_bytes);
}

/*=============================================================================
 * >>s4-core
 *=============================================================================
 * S4D and S4 are one recurrence with constant coefficients for every channel and stored state,
 *
 *     s[t] = a s[t-1] - p g[t] + b u[t],  g[t] = Re(l . s[t-1]),       y[t] = Re(c . s[t]) + D u[t]
 *
 * (the factor 2 of conjugate pairs is in c and l; p = l = 0 for S4D). Coefficients and states are
 * [state][part][channel], so all loops run across channels, SSM_LANES at a time. Gradients by a complex
 * number are d/d re + i d/d im, so that of z = w v is conj(v) times that of z, by w.
 */
#define SSM__S4_CHUNK 32 /* steps between the states that the backward keeps */

/* --- coefficients of one channel and state --- */
static ssm_real ssm__s4_delta(const ssm_s4_core *core, const ssm_real *params, size_t h)
{
    return core->offsets.log_dt == SSM__SIZE_MAX ? 1 : ssm__exp(params[core->offsets.log_dt + h]);
}

/* Sign of A_imag: s4d.py adds it, s4.py subtracts it. */
static ssm_real ssm__s4_sign(const ssm_s4_core *core)
{
    return core->low_rank ? SSM__K(-1.0) : SSM__K(1.0);
}

static ssm__complex ssm__s4_A(const ssm_s4_core *core, const ssm_real *params, size_t h, size_t n)
{
    const size_t i = h % core->n_ssm * core->states + n;
    return ssm__c(-ssm__exp(params[core->offsets.A_real + i]),
                  core->parts == 2 ? ssm__s4_sign(core) * params[core->offsets.A_imag + i] : 0);
}

/* Element (h, n) of an array [.][state][part]; `absent` if there is none. */
static ssm__complex ssm__s4_weight(const ssm_s4_core *core, const ssm_real *params, size_t offset, size_t h, size_t n,
                                   ssm_real absent)
{
    const ssm_real *w;
    if (offset == SSM__SIZE_MAX) return ssm__c(absent, 0);
    w = params + offset + (h * core->states + n) * core->parts;
    return ssm__c(w[0], core->parts == 2 ? w[1] : 0);
}

static void ssm__s4_weight_add(const ssm_s4_core *core, ssm_real *dparams, size_t offset, size_t h, size_t n,
                               ssm__complex g)
{
    ssm_real *w;
    if (offset == SSM__SIZE_MAX) return;
    w = dparams + offset + (h * core->states + n) * core->parts;
    w[0] += g.re;
    if (core->parts == 2) w[1] += g.im;
}

/* Element (n, h) of [state][part][channel]. */
static ssm__complex ssm__s4_get(const ssm_s4_core *core, const ssm_real *v, size_t n, size_t h)
{
    const ssm_real *at = v + n * core->parts * core->dim + h;
    return ssm__c(at[0], core->parts == 2 ? at[core->dim] : 0);
}

static void ssm__s4_put(const ssm_s4_core *core, ssm_real *v, size_t n, size_t h, ssm__complex z)
{
    ssm_real *at = v + n * core->parts * core->dim + h;
    at[0] = z.re;
    if (core->parts == 2) at[core->dim] = z.im;
}

/* Reals in one array [state][part][channel], such as a state. */
static size_t ssm__s4_count(const ssm_s4_core *core)
{
    return ssm__mul(ssm__mul(core->states, core->parts), core->dim);
}

/* What the low-rank part of a channel comes to: r = 1/(1 + Re sum |P|^2 f), m = r kappa with
 * kappa = 2 Re sum conj(P) f B. Woodbury's identity on (2/delta - Lambda + P P^H)^-1, multiplied out:
 * with f = delta / (1 - delta Lambda / 2), the pole's b, p = f P / 2, l = 4 r/delta conj(P) f, b = f B - p m. */
typedef struct ssm__s4_rank {
    ssm_real delta;
    ssm_real r;
    ssm_real kappa;
} ssm__s4_rank;

static ssm__s4_rank ssm__s4_rank_of(const ssm_s4_core *core, const ssm_real *params, size_t h)
{
    ssm__s4_rank k;
    ssm_real q = 0;
    size_t n;
    k.delta = ssm__s4_delta(core, params, h);
    k.kappa = 0;
    for (n = 0; core->low_rank && n < core->states; ++n) {
        const ssm__c_coef pole = ssm__c_discretise(core->disc, ssm__s4_A(core, params, h, n), k.delta, k.delta);
        const ssm__complex P = ssm__s4_weight(core, params, core->offsets.P, h % core->n_ssm, n, 0);
        const ssm__complex B = ssm__s4_weight(core, params, core->offsets.B, h % core->n_ssm, n, 1);
        q += ssm__c_dot(P, P) * pole.b.re;
        k.kappa += 2 * ssm__c_dot(P, ssm__c_mul(pole.b, B));
    }
    k.r = 1 / (1 + q);
    return k;
}

typedef struct ssm__s4_coefs { /* arrays [state][part][channel]; p and l NULL without low rank */
    ssm_real *a;
    ssm_real *b;
    ssm_real *c; /* [direction] of them */
    ssm_real *p;
    ssm_real *l;
} ssm__s4_coefs;

static ssm__s4_coefs ssm__s4_coefs_take(const ssm_s4_core *core, ssm__arena *arena)
{
    const size_t count = ssm__s4_count(core);
    ssm__s4_coefs k;
    k.a = ssm__take(arena, count);
    k.b = ssm__take(arena, count);
    k.c = ssm__take(arena, ssm__mul(core->directions, count));
    k.p = core->low_rank ? ssm__take(arena, count) : NULL;
    k.l = core->low_rank ? ssm__take(arena, count) : NULL;
    return k;
}

static void ssm__s4_coefs_zero(const ssm_s4_core *core, const ssm__s4_coefs *k)
{
    const size_t count = core->states * core->parts * core->dim;
    ssm__zero(k->a, count);
    ssm__zero(k->b, count);
    ssm__zero(k->c, core->directions * count);
    if (k->p) ssm__zero(k->p, count);
    if (k->l) ssm__zero(k->l, count);
}

/* Parameters to coefficients, channel h. */
static void ssm__s4_coefs_make(const ssm_s4_core *core, const ssm_real *params, const ssm__s4_coefs *k, size_t h)
{
    const ssm__s4_rank rank = ssm__s4_rank_of(core, params, h);
    const size_t row = h % core->n_ssm;
    size_t n, d;
    for (n = 0; n < core->states; ++n) {
        const ssm__complex A = ssm__s4_A(core, params, h, n);
        const ssm__c_coef pole = ssm__c_discretise(core->disc, A, rank.delta, rank.delta);
        const ssm__complex P = ssm__s4_weight(core, params, core->offsets.P, row, n, 0);
        const ssm__complex p = ssm__c_scale(SSM__K(0.5), ssm__c_mul(pole.b, P));
        ssm__complex b = ssm__c_mul(pole.b, ssm__s4_weight(core, params, core->offsets.B, row, n, 1));
        if (core->low_rank) {
            b = ssm__c_sub(b, ssm__c_scale(rank.r * rank.kappa, p));
            ssm__s4_put(core, k->p, n, h, p);
            ssm__s4_put(core, k->l, n, h, ssm__c_scale(4 * rank.r / rank.delta, ssm__c_mul_conj(P, pole.b)));
        }
        ssm__s4_put(core, k->a, n, h, pole.a);
        ssm__s4_put(core, k->b, n, h, b);
        for (d = 0; d < core->directions; ++d) {
            const ssm__complex C = ssm__s4_weight(core, params, core->offsets.C, d * core->dim + h, n, 1);
            ssm__s4_put(core, k->c + d * ssm__s4_count(core), n, h, ssm__c_scale((ssm_real)core->parts, C));
        }
    }
}

/* Adds to the gradients of A_real, A_imag and log_dt, from those of A (by its parts) and delta. */
static void ssm__s4_A_adjoint(const ssm_s4_core *core, ssm_real *dparams, size_t h, size_t n, ssm__complex A,
                              ssm__complex gA)
{
    const size_t i = h % core->n_ssm * core->states + n;
    dparams[core->offsets.A_real + i] += gA.re * A.re; /* A.re = -exp(A_real) */
    if (core->parts == 2) dparams[core->offsets.A_imag + i] += gA.im * ssm__s4_sign(core);
}

static void ssm__s4_delta_adjoint(const ssm_s4_core *core, ssm_real *dparams, size_t h, ssm_real delta, ssm_real gdelta)
{
    if (core->offsets.log_dt != SSM__SIZE_MAX) dparams[core->offsets.log_dt + h] += gdelta * delta;
}

/* The adjoint of ssm__s4_coefs_make: gradients `g` of the coefficients to those of the parameters. */
static void ssm__s4_coefs_adjoint(const ssm_s4_core *core, const ssm__s4_coefs *g, ssm_real *dparams, size_t h)
{
    const ssm_real *params = core->params;
    const ssm_s4_offsets *o = &core->offsets;
    const ssm__s4_rank rank = ssm__s4_rank_of(core, params, h);
    const size_t row = h % core->n_ssm;
    ssm_real gm = 0, gr = 0, gq = 0, gkappa = 0, gdelta = 0, inner = 0;
    size_t n, d;
    for (n = 0; core->low_rank && n < core->states; ++n) {
        gm -= ssm__c_dot(ssm__s4_get(core, g->b, n, h), ssm__s4_get(core, core->p, n, h));
        inner += ssm__c_dot(ssm__s4_get(core, g->l, n, h), ssm__s4_get(core, core->l, n, h));
    }
    if (core->low_rank) { /* m = r kappa, l ~ r / delta, r = 1/(1 + q) */
        gr = rank.kappa * gm + inner / rank.r;
        gkappa = rank.r * gm;
        gq = -rank.r * rank.r * gr;
        gdelta = -inner / rank.delta;
    }
    for (n = 0; n < core->states; ++n) {
        const ssm__complex A = ssm__s4_A(core, params, h, n);
        const ssm__c_coef k = ssm__c_discretise(core->disc, A, rank.delta, rank.delta);
        const ssm__complex B = ssm__s4_weight(core, params, o->B, row, n, 1);
        ssm__complex gb = ssm__s4_get(core, g->b, n, h);
        ssm__c_coef gk;
        ssm__c_coef_grad ge;
        gk.a = ssm__s4_get(core, g->a, n, h);
        gk.b = ssm__c(0, 0);
        if (core->low_rank) {
            const ssm__complex P = ssm__s4_weight(core, params, o->P, row, n, 0), gl = ssm__s4_get(core, g->l, n, h);
            const ssm__complex gp =
                ssm__c_sub(ssm__s4_get(core, g->p, n, h), ssm__c_scale(rank.r * rank.kappa, gb)); /* b = fB - p m */
            const ssm_real s = 4 * rank.r / rank.delta;
            ssm__complex gP = ssm__c_scale(SSM__K(0.5), ssm__c_mul_conj(k.b, gp)); /* p = f P / 2 */
            gP = ssm__c_add(gP, ssm__c_scale(s, ssm__c_mul_conj(gl, k.b)));        /* l = s conj(P) f */
            gP = ssm__c_add(gP, ssm__c_scale(2 * k.b.re * gq, P));                 /* q = sum |P|^2 Re f */
            gP = ssm__c_add(gP, ssm__c_scale(2 * gkappa, ssm__c_mul(k.b, B)));     /* kappa */
            gk.b = ssm__c_scale(SSM__K(0.5), ssm__c_mul_conj(P, gp));
            gk.b = ssm__c_add(gk.b, ssm__c_scale(s, ssm__c_mul(P, gl)));
            gk.b = ssm__c_add(gk.b, ssm__c(gq * ssm__c_dot(P, P), 0));
            gb = ssm__c_add(gb, ssm__c_scale(2 * gkappa, P)); /* from here: of f B */
            ssm__s4_weight_add(core, dparams, o->P, row, n, gP);
        }
        gk.b = ssm__c_add(gk.b, ssm__c_mul_conj(B, gb));
        ssm__s4_weight_add(core, dparams, o->B, row, n, ssm__c_mul_conj(k.b, gb));
        ge = ssm__c_discretise_grad(core->disc, A, rank.delta, rank.delta, k, gk);
        ssm__s4_A_adjoint(core, dparams, h, n, A, ge.A);
        gdelta += ge.da + ge.db;
        for (d = 0; d < core->directions; ++d)
            ssm__s4_weight_add(
                core, dparams, o->C, d * core->dim + h, n,
                ssm__c_scale((ssm_real)core->parts, ssm__s4_get(core, g->c + d * ssm__s4_count(core), n, h)));
    }
    ssm__s4_delta_adjoint(core, dparams, h, rank.delta, gdelta);
}

/* --- the recurrence, for one sequence and at most SSM_LANES channels --- */
typedef struct ssm__s4_lanes { /* coefficients at the first channel, rows `dim` apart */
    const ssm_real *a;
    const ssm_real *b;
    const ssm_real *c;
    const ssm_real *p;
    const ssm_real *l;
    size_t dim;
    size_t states;
    size_t parts;
    size_t lanes;
} ssm__s4_lanes;

static size_t ssm__s4_blocks(const ssm_s4_core *core)
{
    return ssm__ceil_div(core->dim, SSM_LANES);
}

static ssm__s4_lanes ssm__s4_lanes_at(const ssm_s4_core *core, size_t direction, size_t first)
{
    ssm__s4_lanes k;
    k.a = core->a + first;
    k.b = core->b + first;
    k.c = core->c + direction * ssm__s4_count(core) + first;
    k.p = core->low_rank ? core->p + first : NULL;
    k.l = core->low_rank ? core->l + first : NULL;
    k.dim = core->dim;
    k.states = core->states;
    k.parts = core->parts;
    k.lanes = ssm__min(SSM_LANES, core->dim - first);
    return k;
}

/* One real state of all lanes through all steps. */
static void ssm__s4_run_real(const ssm_real *SSM__RESTRICT a, const ssm_real *SSM__RESTRICT b,
                             const ssm_real *SSM__RESTRICT c, ssm_real *SSM__RESTRICT s, const ssm_real *u,
                             ptrdiff_t u_row, ssm_real *SSM__RESTRICT y, ptrdiff_t y_row, size_t steps, size_t lanes)
{
    size_t t, i;
    for (t = 0; t < steps; ++t, u += u_row, y += y_row) {
        for (i = 0; i < lanes; ++i) {
            s[i] = a[i] * s[i] + b[i] * u[i];
            y[i] += c[i] * s[i];
        }
    }
}

/* One complex state; imaginary parts `dim` (of s: `s_row`) after the real ones. */
static void ssm__s4_run_complex(const ssm_real *SSM__RESTRICT a, const ssm_real *SSM__RESTRICT b,
                                const ssm_real *SSM__RESTRICT c, size_t dim, ssm_real *SSM__RESTRICT s, size_t s_row,
                                const ssm_real *u, ptrdiff_t u_row, ssm_real *SSM__RESTRICT y, ptrdiff_t y_row,
                                size_t steps, size_t lanes)
{
    size_t t, i;
    for (t = 0; t < steps; ++t, u += u_row, y += y_row) {
        for (i = 0; i < lanes; ++i) {
            const ssm_real re = a[i] * s[i] - a[dim + i] * s[s_row + i] + b[i] * u[i];
            const ssm_real im = a[i] * s[s_row + i] + a[dim + i] * s[i] + b[dim + i] * u[i];
            s[i] = re;
            s[s_row + i] = im;
            y[i] += c[i] * re - c[dim + i] * im;
        }
    }
}

/* g = Re(l . s). */
static void ssm__s4_project(const ssm__s4_lanes *k, const ssm_real *s, size_t s_row, ssm_real *g)
{
    size_t n, i;
    for (i = 0; i < k->lanes; ++i) g[i] = 0;
    for (n = 0; n < k->states; ++n) {
        const ssm_real *l = k->l + 2 * n * k->dim, *sn = s + 2 * n * s_row;
        for (i = 0; i < k->lanes; ++i) g[i] += l[i] * sn[i] - l[k->dim + i] * sn[s_row + i];
    }
}

/* One complex state of a step with low rank. */
static void ssm__s4_run_low_rank(const ssm__s4_lanes *k, size_t n, const ssm_real *g, ssm_real *SSM__RESTRICT s,
                                 size_t s_row, const ssm_real *u, ssm_real *SSM__RESTRICT y)
{
    const size_t dim = k->dim, at = 2 * n * dim;
    const ssm_real *a = k->a + at, *b = k->b + at, *c = k->c + at, *p = k->p + at;
    size_t i;
    for (i = 0; i < k->lanes; ++i) {
        const ssm_real re = a[i] * s[i] - a[dim + i] * s[s_row + i] - p[i] * g[i] + b[i] * u[i];
        const ssm_real im = a[i] * s[s_row + i] + a[dim + i] * s[i] - p[dim + i] * g[i] + b[dim + i] * u[i];
        s[i] = re;
        s[s_row + i] = im;
        y[i] += c[i] * re - c[dim + i] * im;
    }
}

/* y[t] += Re(c . s[t]); s, [state][part] rows `s_row` apart, in place. u NULL: zero; y NULL: not wanted. */
static void ssm__s4_scan(const ssm__s4_lanes *k, const ssm_real *u, ptrdiff_t u_row, ssm_real *y, ptrdiff_t y_row,
                         size_t steps, ssm_real *s, size_t s_row)
{
    ssm_real silence[SSM_LANES], sink[SSM_LANES], g[SSM_LANES];
    size_t n, t;
    for (n = 0; n < SSM_LANES; ++n) silence[n] = sink[n] = 0;
    if (!u) {
        u = silence;
        u_row = 0;
    }
    if (!y) {
        y = sink;
        y_row = 0;
    }
    if (k->l) {
        for (t = 0; t < steps; ++t, u += u_row, y += y_row) {
            ssm__s4_project(k, s, s_row, g);
            for (n = 0; n < k->states; ++n) ssm__s4_run_low_rank(k, n, g, s + 2 * n * s_row, s_row, u, y);
        }
        return;
    }
    for (n = 0; n < k->states; ++n) {
        const size_t at = n * k->parts * k->dim;
        ssm_real *sn = s + n * k->parts * s_row;
        if (k->parts == 1) ssm__s4_run_real(k->a + at, k->b + at, k->c + at, sn, u, u_row, y, y_row, steps, k->lanes);
        else
            ssm__s4_run_complex(k->a + at, k->b + at, k->c + at, k->dim, sn, s_row, u, u_row, y, y_row, steps,
                                k->lanes);
    }
}

/* State n alone; without low rank no other has a part in it. */
static ssm__s4_lanes ssm__s4_lanes_state(ssm__s4_lanes k, size_t n)
{
    const size_t at = n * k.parts * k.dim;
    SSM_ASSERT(!k.l);
    k.a += at;
    k.b += at;
    k.c += at;
    k.states = 1;
    return k;
}

/* Numbers so small that their products would be subnormal become 0: a state left alone decays to the
 * smallest subnormals, stays there, and makes every step slow. */
static void ssm__s4_flush(ssm_real *v, size_t n)
{
    const ssm_real least = ssm__pow2(1 - SSM__BIAS + SSM__MANTISSA);
    size_t i;
    for (i = 0; i < n; ++i) v[i] = v[i] < least && v[i] > -least ? SSM__K(0.0) : v[i];
}

/* ssm__s4_scan without input; s rows are SSM_LANES apart. */
static void ssm__s4_decay(const ssm__s4_lanes *k, ssm_real *y, ptrdiff_t y_row, size_t steps, ssm_real *s)
{
    size_t t, count;
    for (t = 0; t < steps; t += count) {
        count = ssm__min(steps - t, SSM__S4_CHUNK);
        ssm__s4_scan(k, NULL, 0, y ? y + ssm__step(t, y_row) : NULL, y_row, count, s, SSM_LANES);
        ssm__s4_flush(s, k->states * k->parts * SSM_LANES);
    }
}

/* --- its adjoint --- */
typedef struct ssm__s4_grad { /* gradients of the coefficients, at the first channel, as ssm__s4_lanes */
    ssm_real *a;
    ssm_real *b;
    ssm_real *c;
    ssm_real *p;
    ssm_real *l;
} ssm__s4_grad;

static ssm__s4_grad ssm__s4_grad_at(const ssm_s4_core *core, const ssm__s4_coefs *g, size_t direction, size_t first)
{
    ssm__s4_grad k;
    k.a = g->a + first;
    k.b = g->b + first;
    k.c = g->c + direction * ssm__s4_count(core) + first;
    k.p = g->p ? g->p + first : NULL;
    k.l = g->l ? g->l + first : NULL;
    return k;
}

/* One state of one step. s: after the step, before: before it; ds in: gradient of s from later steps, out:
 * that of `before`. du and gamma (of g) are added to. */
static void ssm__s4_adjoint_state(const ssm__s4_lanes *k, const ssm__s4_grad *d, size_t n, const ssm_real *before,
                                  const ssm_real *s, const ssm_real *u, const ssm_real *dy, const ssm_real *g,
                                  ssm_real *ds, ssm_real *du, ssm_real *gamma)
{
    const size_t W = SSM_LANES, dim = k->dim, at = n * k->parts * dim;
    const ssm_real *a = k->a + at, *b = k->b + at, *c = k->c + at;
    ssm_real *da = d->a + at, *db = d->b + at, *dc = d->c + at;
    size_t i;
    if (k->parts == 1) {
        for (i = 0; i < k->lanes; ++i) {
            const ssm_real x = ds[i] + dy[i] * c[i];
            dc[i] += dy[i] * s[i];
            db[i] += x * u[i];
            da[i] += x * before[i];
            du[i] += x * b[i];
            ds[i] = x * a[i];
        }
        return;
    }
    for (i = 0; i < k->lanes; ++i) {
        const ssm_real re = ds[i] + dy[i] * c[i], im = ds[W + i] - dy[i] * c[dim + i];
        dc[i] += dy[i] * s[i];
        dc[dim + i] -= dy[i] * s[W + i];
        db[i] += re * u[i];
        db[dim + i] += im * u[i];
        da[i] += re * before[i] + im * before[W + i];
        da[dim + i] += im * before[i] - re * before[W + i];
        du[i] += re * b[i] + im * b[dim + i];
        ds[i] = re * a[i] + im * a[dim + i];
        ds[W + i] = im * a[i] - re * a[dim + i];
        if (!k->l) continue;
        gamma[i] -= re * k->p[at + i] + im * k->p[at + dim + i];
        d->p[at + i] -= re * g[i];
        d->p[at + dim + i] -= im * g[i];
    }
}

/* What flows through g = Re(l . before). */
static void ssm__s4_adjoint_rank(const ssm__s4_lanes *k, const ssm__s4_grad *d, const ssm_real *before,
                                 const ssm_real *gamma, ssm_real *ds)
{
    const size_t W = SSM_LANES, dim = k->dim;
    size_t n, i;
    for (n = 0; n < k->states; ++n, before += 2 * W, ds += 2 * W) {
        const ssm_real *l = k->l + 2 * n * dim;
        ssm_real *dl = d->l + 2 * n * dim;
        for (i = 0; i < k->lanes; ++i) {
            ds[i] += gamma[i] * l[i];
            ds[W + i] -= gamma[i] * l[dim + i];
            dl[i] += gamma[i] * before[i];
            dl[dim + i] -= gamma[i] * before[W + i];
        }
    }
}

/* Scratch of the adjoint of one block of channels; states are [state][part][SSM_LANES]. */
typedef struct ssm__s4_history {
    ssm_real *kept;  /* [chunk]: entering each chunk */
    ssm_real *state; /* [SSM__S4_CHUNK + 1] */
    ssm_real *ds;
} ssm__s4_history;

static size_t ssm__s4_lane_count(const ssm_s4_core *core)
{
    return ssm__mul(ssm__mul(core->states, core->parts), SSM_LANES);
}

/* For all blocks of channels. */
static void ssm__s4_history_take(const ssm_s4_core *core, ssm__arena *arena, size_t steps, ssm__s4_history *w)
{
    const size_t count = ssm__mul(ssm__s4_blocks(core), ssm__s4_lane_count(core));
    w->kept = ssm__take(arena, ssm__mul(ssm__ceil_div(steps, SSM__S4_CHUNK), count));
    w->state = ssm__take(arena, ssm__mul(ssm__min(steps, SSM__S4_CHUNK) + 1, count));
    w->ds = ssm__take(arena, count);
}

/* Of one block; `steps` as given to take. */
static ssm__s4_history ssm__s4_history_at(const ssm_s4_core *core, ssm__s4_history w, size_t steps, size_t block)
{
    const size_t count = ssm__s4_lane_count(core);
    w.kept += block * ssm__ceil_div(steps, SSM__S4_CHUNK) * count;
    w.state += block * (ssm__min(steps, SSM__S4_CHUNK) + 1) * count;
    w.ds += block * count;
    return w;
}

/* Moves lanes of states between rows of `from_row` and of `to_row` reals. */
static void ssm__s4_move(const ssm__s4_lanes *k, ssm_real *to, size_t to_row, const ssm_real *from, size_t from_row)
{
    size_t r;
    for (r = 0; r < k->states * k->parts; ++r) ssm__copy(to + r * to_row, from + r * from_row, k->lanes);
}

/* Steps `from` .. `to` - 1, backwards; w->state holds the states before and after each of them. */
static void ssm__s4_adjoint_chunk(const ssm__s4_lanes *k, const ssm__s4_grad *d, const ssm_real *u, ptrdiff_t u_row,
                                  const ssm_real *dy, ptrdiff_t dy_row, ssm_real *du, ptrdiff_t du_row, size_t from,
                                  size_t to, const ssm__s4_history *w)
{
    const size_t count = k->states * k->parts * SSM_LANES;
    ssm_real sink[SSM_LANES], g[SSM_LANES], gamma[SSM_LANES], silence[SSM_LANES];
    size_t t, n;
    for (n = 0; n < SSM_LANES; ++n) silence[n] = 0;
    for (t = to; t-- > from;) {
        const ssm_real *before = w->state + (t - from) * count, *after = before + count;
        const ssm_real *ut = u ? u + ssm__step(t, u_row) : silence;
        const ssm_real *dyt = dy ? dy + ssm__step(t, dy_row) : silence;
        for (n = 0; n < SSM_LANES; ++n) gamma[n] = sink[n] = g[n] = 0;
        if (k->l) ssm__s4_project(k, before, SSM_LANES, g);
        for (n = 0; n < k->states; ++n) {
            const size_t at = n * k->parts * SSM_LANES;
            ssm__s4_adjoint_state(k, d, n, before + at, after + at, ut, dyt, g, w->ds + at, sink, gamma);
        }
        if (k->l) ssm__s4_adjoint_rank(k, d, before, gamma, w->ds);
        for (n = 0; du && n < k->lanes; ++n) du[ssm__step(t, du_row) + (ptrdiff_t)n] += sink[n];
    }
}

/* Adjoint of ssm__s4_scan from entering state s (NULL: zero). ds inout, rows `s_row` apart (NULL: zero, not
 * wanted). u, dy NULL: zero; du NULL: not wanted. */
static void ssm__s4_adjoint(const ssm__s4_lanes *k, const ssm__s4_grad *d, const ssm_real *u, ptrdiff_t u_row,
                            const ssm_real *dy, ptrdiff_t dy_row, ssm_real *du, ptrdiff_t du_row, size_t steps,
                            const ssm_real *s, ssm_real *ds, size_t s_row, const ssm__s4_history *w)
{
    const size_t count = k->states * k->parts * SSM_LANES, chunks = ssm__ceil_div(steps, SSM__S4_CHUNK);
    size_t chunk, t;
    ssm__zero(w->ds, count);
    if (ds) ssm__s4_move(k, w->ds, SSM_LANES, ds, s_row);
    for (chunk = 0; chunk < chunks; ++chunk) {
        ssm_real *kept = w->kept + chunk * count;
        if (chunk == 0) {
            ssm__zero(kept, count);
            if (s) ssm__s4_move(k, kept, SSM_LANES, s, s_row);
            continue;
        }
        t = (chunk - 1) * SSM__S4_CHUNK;
        ssm__copy(kept, kept - count, count);
        ssm__s4_scan(k, u ? u + ssm__step(t, u_row) : NULL, u_row, NULL, 0, SSM__S4_CHUNK, kept, SSM_LANES);
        ssm__s4_flush(kept, count);
    }
    while (chunk-- > 0) {
        const size_t from = chunk * SSM__S4_CHUNK, to = ssm__min(steps, from + SSM__S4_CHUNK);
        ssm__copy(w->state, w->kept + chunk * count, count);
        for (t = from; t < to; ++t) {
            ssm_real *next = w->state + (t - from + 1) * count;
            ssm__copy(next, next - count, count);
            ssm__s4_scan(k, u ? u + ssm__step(t, u_row) : NULL, u_row, NULL, 0, 1, next, SSM_LANES);
        }
        ssm__s4_adjoint_chunk(k, d, u, u_row, dy, dy_row, du, du_row, from, to, w);
        ssm__s4_flush(w->ds, count);
    }
    if (ds) ssm__s4_move(k, ds, s_row, w->ds, SSM_LANES);
}

/* --- kernels --- */
/* y[l] = K[l] for l < len, rows `row` apart: the answer to an impulse. lane: scratch for a state. */
static void ssm__s4_impulse(const ssm__s4_lanes *k, ssm_real *y, ptrdiff_t row, size_t len, ssm_real *lane)
{
    ssm_real one[SSM_LANES];
    size_t l, i;
    for (i = 0; i < SSM_LANES; ++i) one[i] = 1;
    ssm__zero(lane, k->states * k->parts * SSM_LANES);
    for (l = 0; l < len; ++l) ssm__zero(y + ssm__step(l, row), k->lanes);
    if (len) ssm__s4_scan(k, one, 0, y, row, 1, lane, SSM_LANES);
    if (len > 1) ssm__s4_decay(k, y + row, row, len - 1, lane);
}

/* The recurrence of row vectors, v -> v Abar: l and p change places. */
static ssm__s4_lanes ssm__s4_transposed(ssm__s4_lanes k)
{
    const ssm_real *p = k.p;
    k.p = k.l;
    k.l = p;
    return k;
}

/* S4: the kernel's spectrum at the n-th roots of unity z = exp(-2 pi i j / n), n a power of two,
 *
 *     sum_l<n K[l] z^l = C~ (1 - Abar z)^-1 Bbar,    C~ = C - C Abar^n,
 *
 * where (1 - Abar z)^-1 Bbar = [(1 - z) - delta/2 (1 + z) A]^-1 delta B. With w = exp(-pi i j / n), s and c the
 * sine and cosine of pi j / n, 1 - z = 2 i s w and 1 + z = 2 c w, so with tau = delta/2, theta = tau c
 *
 *     = tau / w * C~ [i s - theta A]^-1 B  =  tau / w (r1 - theta r2 r3 / (1 + theta r4))
 *
 * by Woodbury, r1 .. r4 = sum over both conjugates of v / (i s - theta Lambda), v = C~ B, C~ P, conj(P) B,
 * |P|^2. The denominators have positive real parts: nothing is singular at z = -1, where theta = 0.
 * Source: Gu, Goel & Re 2021, arXiv:2111.00396, appendix C.3; the half angles are ours. */
typedef struct ssm__s4_cauchy {
    size_t n;
    ssm_real *table;  /* twiddles of n */
    ssm_real *buffer; /* [n][2] */
    ssm_real *lambda; /* [states][2], of one channel */
    ssm_real *v;      /* [4][states][2] */
    ssm_real *dlambda;
    ssm_real *dv;
    ssm_real *row; /* [states][2][SSM_LANES]: C Abar^n */
} ssm__s4_cauchy;

static size_t ssm__s4_cauchy_layout(const ssm_s4_core *core, size_t len, void *mem, ssm__s4_cauchy *w)
{
    ssm__arena arena = ssm__arena_open(mem);
    const size_t count = ssm__mul(2, core->states);
    w->n = ssm__fft_size(len);
    w->table = ssm__take(&arena, w->n);
    w->buffer = ssm__take(&arena, ssm__mul(2, w->n));
    w->lambda = ssm__take(&arena, count);
    w->v = ssm__take(&arena, ssm__mul(4, count));
    w->dlambda = ssm__take(&arena, count);
    w->dv = ssm__take(&arena, ssm__mul(4, count));
    w->row = ssm__take(&arena, ssm__s4_lane_count(core));
    return ssm__arena_bytes(&arena);
}

/* Reals that hold it, wherever they lie. */
static size_t ssm__s4_cauchy_count(const ssm_s4_core *core, size_t len)
{
    ssm__s4_cauchy w;
    return core->low_rank ? ssm__ceil_div(ssm__s4_cauchy_layout(core, len, NULL, &w), sizeof(ssm_real)) : 0;
}

/* row = c Abar^n for a block of channels. */
static void ssm__s4_cauchy_power(const ssm_s4_core *core, const ssm__s4_lanes *k, const ssm__s4_cauchy *w)
{
    const ssm__s4_lanes transposed = ssm__s4_transposed(*k);
    ssm__zero(w->row, ssm__s4_lane_count(core));
    ssm__s4_move(k, w->row, SSM_LANES, k->c, k->dim);
    ssm__s4_decay(&transposed, NULL, 0, w->n, w->row);
}

/* Lambda and the four numerators of channel h, lane i of the block k. */
static void ssm__s4_cauchy_open(const ssm_s4_core *core, const ssm__s4_lanes *k, size_t h, size_t i,
                                const ssm__s4_cauchy *w)
{
    const size_t S = core->states, row = h % core->n_ssm;
    size_t n;
    for (n = 0; n < S; ++n) {
        const ssm__complex P = ssm__s4_weight(core, core->params, core->offsets.P, row, n, 0);
        const ssm__complex B = ssm__s4_weight(core, core->params, core->offsets.B, row, n, 0);
        const ssm_real *c = k->c + 2 * n * k->dim + i, *v = w->row + 2 * n * SSM_LANES + i;
        const ssm__complex C = ssm__c(SSM__K(0.5) * (c[0] - v[0]), SSM__K(0.5) * (c[k->dim] - v[SSM_LANES]));
        ssm__c_store(w->lambda + 2 * n, ssm__s4_A(core, core->params, h, n));
        ssm__c_store(w->v + 2 * n, ssm__c_mul(C, B));
        ssm__c_store(w->v + 2 * (S + n), ssm__c_mul(C, P));
        ssm__c_store(w->v + 2 * (2 * S + n), ssm__c_mul_conj(P, B));
        ssm__c_store(w->v + 2 * (3 * S + n), ssm__c(ssm__c_dot(P, P), 0));
    }
}

/* 1 / (i s - theta Lambda) for both conjugates. */
static void ssm__s4_resolvent(const ssm_real *lambda, ssm_real theta, ssm_real s, ssm__complex *plus,
                              ssm__complex *minus)
{
    const ssm_real re = -theta * lambda[0], im = theta * lambda[1];
    *plus = ssm__c_inverse(ssm__c(re, s - im));
    *minus = ssm__c_inverse(ssm__c(re, s + im));
}

static void ssm__s4_cauchy_sums(size_t S, const ssm__s4_cauchy *w, ssm_real theta, ssm_real s, ssm__complex r[4])
{
    size_t n, q;
    for (q = 0; q < 4; ++q) r[q] = ssm__c(0, 0);
    for (n = 0; n < S; ++n) {
        ssm__complex plus, minus;
        ssm__s4_resolvent(w->lambda + 2 * n, theta, s, &plus, &minus);
        for (q = 0; q < 4; ++q) {
            const ssm__complex v = ssm__c_load(w->v + 2 * (q * S + n));
            r[q] = ssm__c_add(r[q], ssm__c_add(ssm__c_mul(v, plus), ssm__c_mul_conj(v, minus)));
        }
    }
}

/* The kernel of channel h, lane i of block k, for l < len, `stride` apart. */
static void ssm__s4_cauchy_kernel(const ssm_s4_core *core, const ssm__s4_lanes *k, size_t h, size_t i,
                                  const ssm__s4_cauchy *w, ssm_real *y, ptrdiff_t stride, size_t len)
{
    const ssm_real tau = SSM__K(0.5) * ssm__s4_delta(core, core->params, h);
    const size_t n = w->n;
    size_t j, l;
    ssm__s4_cauchy_open(core, k, h, i, w);
    for (j = 0; j <= n / 2; ++j) {
        const ssm__complex half = ssm__c_conj(ssm__twiddle(j, 2 * n)); /* 1 / w = (c, s) */
        const ssm_real theta = tau * half.re;
        ssm__complex r[4], x;
        ssm__s4_cauchy_sums(core->states, w, theta, half.im, r);
        x = ssm__c_inverse(ssm__c(1 + theta * r[3].re, theta * r[3].im));
        x = ssm__c_mul(ssm__c_scale(theta, x), ssm__c_mul(r[1], r[2]));
        x = ssm__c_mul(ssm__c_scale(tau / (ssm_real)n, half), ssm__c_sub(r[0], x));
        ssm__c_store(w->buffer + 2 * ssm__fft_reversed(j, n), x);
        if (j > 0) ssm__c_store(w->buffer + 2 * ssm__fft_reversed(n - j, n), ssm__c_conj(x));
    }
    ssm__fft_inverse(w->buffer, n, 1, w->table);
    for (l = 0; l < len; ++l) y[ssm__step(l, stride)] = w->buffer[2 * l];
}

/* Kernels of one block of channels, channel i at y[l * row + i]. cauchy: ssm__s4_cauchy_count reals. */
static void ssm__s4_block_kernel(const ssm_s4_core *core, size_t direction, size_t block, ssm_real *y, ptrdiff_t row,
                                 size_t len, ssm_real *lane, void *cauchy)
{
    const size_t first = block * SSM_LANES;
    const ssm__s4_lanes k = ssm__s4_lanes_at(core, direction, first);
    ssm__s4_cauchy w;
    size_t i;
    if (!core->low_rank) {
        ssm__s4_impulse(&k, y, row, len, lane);
        return;
    }
    ssm__s4_cauchy_layout(core, len, cauchy, &w);
    ssm__fft_table(w.table, w.n);
    ssm__s4_cauchy_power(core, &k, &w);
    for (i = 0; i < k.lanes; ++i) ssm__s4_cauchy_kernel(core, &k, first + i, i, &w, y + i, row, len);
}

/* --- memory --- */
typedef struct ssm__s4_mem { /* what the forward leaves for the backward */
    ssm_real *s;             /* [rows][H] before the activation; NULL on a tape that does not need it */
    ssm_real *v;             /* [rows][2H] before the gate, with GLU */
} ssm__s4_mem;

typedef struct ssm__s4_tape {
    ssm__s4_mem mem;
    ssm_real *state; /* [slots][state] entering states */
} ssm__s4_tape;

typedef struct ssm__s4_work { /* of the forward */
    ssm__s4_mem mem;
    ssm_real *normed; /* [rows][H] */
    ssm_real *g;      /* [rows][H] after the activation */
    ssm_real *lane;   /* [block][state][part][SSM_LANES]: a state of each block */
    size_t n;         /* convolution: length of the complex transform, of 2n rows */
    ssm_real *table;
    ssm_real *kernel; /* [block][2n][SSM_LANES], a spectrum */
    ssm_real *data;   /* the same, of the input */
    ssm_real *cauchy; /* [block], S4 */
    ssm_real *power;  /* time-parallel recurrence: [state][H][part] Abar^SSM__CHUNK */
    ssm_real *carry;  /* [chunk][state][H][part] entering states */
    void *scan;       /* workspace of their scan */
} ssm__s4_work;

typedef struct ssm__s4_scratch { /* of the backward */
    ssm_real *normed;            /* [rows][H] */
    ssm_real *g;                 /* [rows][H] */
    ssm_real *ds;                /* [rows][H] */
    ssm_real *dv;                /* [rows][2H] */
    ssm_real *dx;                /* [rows][H] */
    ssm__s4_coefs grad;
    ssm__s4_history history;
} ssm__s4_scratch;

static size_t ssm__s4_tape_layout(const ssm_s4_core *core, size_t rows, size_t slots, void *mem, ssm__s4_tape *tape)
{
    ssm__arena arena = ssm__arena_open(mem);
    const size_t count = ssm__mul(rows, core->dim);
    tape->mem.s = core->activation || core->output ? ssm__take(&arena, count) : NULL;
    tape->mem.v = core->output ? ssm__take(&arena, ssm__mul(2, count)) : NULL;
    tape->state = ssm__take(&arena, ssm__mul(slots, ssm__s4_count(core)));
    return ssm__arena_bytes(&arena);
}

/* The carries from chunk to chunk as a linear scan, all but its tensors: `maps` steps of as many channels
 * as there are states. */
static ssm_linear_scan ssm__s4_line(const ssm_s4_core *core, size_t maps)
{
    static const ssm_linear_scan none = SSM__EMPTY;
    ssm_linear_scan line = none;
    line.batch = 1;
    line.len = maps;
    line.dim = ssm__mul(core->states, core->dim);
    line.complex_values = core->parts == 2;
    line.scan = core->scan == SSM_SCAN_BLELLOCH ? SSM_SCAN_BLELLOCH : SSM_SCAN_SEQUENTIAL;
    return line;
}

/* Memory of the time-parallel recurrence of at most `rows` steps; a shorter one needs no more. */
static void ssm__s4_chunks_take(const ssm_s4_core *core, ssm__arena *arena, size_t rows, ssm__s4_work *w)
{
    const size_t chunks = ssm__ceil_div(rows, SSM__CHUNK), count = ssm__s4_count(core);
    const ssm_linear_scan line = ssm__s4_line(core, chunks - 1);
    ssm__line_job job;
    w->power = ssm__take(arena, count);
    w->carry = ssm__take(arena, ssm__mul(chunks, count));
    w->scan = ssm__take(arena, ssm__ceil_div(ssm__line_layout(&line, NULL, &job), sizeof(ssm_real)));
}

static size_t ssm__s4_work_layout(const ssm_s4_core *core, size_t rows, int convolution, void *mem, ssm__s4_work *w)
{
    ssm__arena arena = ssm__arena_open(mem);
    const size_t count = ssm__mul(rows, core->dim), blocks = ssm__s4_blocks(core);
    size_t spectrum;
    w->mem.s = ssm__take(&arena, count);
    w->mem.v = core->output ? ssm__take(&arena, ssm__mul(2, count)) : NULL;
    w->normed = core->pre_norm ? ssm__take(&arena, count) : NULL;
    w->g = core->activation ? ssm__take(&arena, count) : NULL;
    w->lane = ssm__take(&arena, ssm__mul(blocks, ssm__s4_lane_count(core)));
    w->n = 0;
    w->table = w->kernel = w->data = w->cauchy = NULL;
    w->power = w->carry = NULL;
    w->scan = NULL;
    if (!convolution && ssm__scan_needs_whole(core->scan) && rows > SSM__CHUNK)
        ssm__s4_chunks_take(core, &arena, rows, w);
    if (convolution) {
        w->n = ssm__fft_size(rows);
        spectrum = ssm__mul(blocks, ssm__mul(ssm__mul(2, w->n), SSM_LANES));
        w->table = ssm__take(&arena, w->n);
        w->kernel = ssm__take(&arena, spectrum);
        w->data = ssm__take(&arena, spectrum);
        w->cauchy = ssm__take(&arena, ssm__mul(blocks, ssm__s4_cauchy_count(core, rows)));
    }
    return ssm__arena_bytes(&arena);
}

static size_t ssm__s4_scratch_layout(const ssm_s4_core *core, size_t rows, void *mem, ssm__s4_scratch *w)
{
    ssm__arena arena = ssm__arena_open(mem);
    const size_t count = ssm__mul(rows, core->dim);
    w->normed = core->pre_norm ? ssm__take(&arena, count) : NULL;
    w->g = core->activation && core->output ? ssm__take(&arena, count) : NULL;
    w->ds = ssm__take(&arena, count);
    w->dv = core->output ? ssm__take(&arena, ssm__mul(2, count)) : NULL;
    w->dx = ssm__take(&arena, count);
    w->grad = ssm__s4_coefs_take(core, &arena);
    ssm__s4_history_take(core, &arena, rows, &w->history);
    return ssm__arena_bytes(&arena);
}

static size_t ssm__s4_tape_bytes(const void *layer, size_t rows, size_t slots)
{
    ssm__s4_tape tape;
    return ssm__s4_tape_layout((const ssm_s4_core *)layer, rows, slots, NULL, &tape);
}

static size_t ssm__s4_work_bytes(const void *layer, size_t rows, size_t streams)
{
    ssm__s4_work work;
    (void)streams;
    return ssm__s4_work_layout((const ssm_s4_core *)layer, rows, 0, NULL, &work);
}

static size_t ssm__s4_conv_work_bytes(const void *layer, size_t rows, size_t streams)
{
    ssm__s4_work work;
    (void)streams;
    return ssm__s4_work_layout((const ssm_s4_core *)layer, rows, 1, NULL, &work);
}

static size_t ssm__s4_work_backward_bytes(const void *layer, size_t rows, size_t streams)
{
    ssm__s4_scratch scratch;
    (void)streams;
    return ssm__s4_scratch_layout((const ssm_s4_core *)layer, rows, NULL, &scratch);
}

/* --- forward of one tile --- */
typedef struct ssm__s4_task {
    const ssm_s4_core *core;
    const ssm__call *call;
    const ssm_real *x; /* normalised */
    ptrdiff_t x_row;
    const ssm__s4_work *work;
    ssm_real *s; /* [rows][H] out */
} ssm__s4_task;

/* y = D u for some lanes of a sequence. */
static void ssm__s4_skip(const ssm_real *D, const ssm_real *u, ptrdiff_t u_row, ssm_real *y, size_t y_row, size_t steps,
                         size_t lanes)
{
    size_t t, i;
    for (t = 0; t < steps; ++t, u += u_row, y += y_row)
        for (i = 0; i < lanes; ++i) y[i] = D[i] * u[i];
}

/* One block of channels by the recurrence. The reverse direction is the same recurrence over the reversed
 * sequence, one step late: y[t] gets nothing of u[t] from it. */
static void ssm__s4_block_recurrent(void *context, size_t block)
{
    const ssm__s4_task *task = (const ssm__s4_task *)context;
    const ssm_s4_core *core = task->core;
    const ssm__tile *t = &task->call->tile;
    const size_t first = block * SSM_LANES, steps = t->steps, H = core->dim;
    const ssm__s4_lanes k = ssm__s4_lanes_at(core, 0, first);
    size_t b;
    for (b = 0; b < t->count; ++b) {
        const ssm_real *u = task->x + ssm__step(b * steps, task->x_row) + first;
        ssm_real *y = task->s + b * steps * H + first;
        ssm__s4_skip(core->D + first, u, task->x_row, y, H, steps, k.lanes);
        ssm__s4_scan(&k, u, task->x_row, y, (ptrdiff_t)H, steps,
                     task->call->state + b * task->call->state_count + first, H);
        if (core->directions == 2 && steps > 1) {
            const ssm__s4_lanes reverse = ssm__s4_lanes_at(core, 1, first);
            ssm_real *lane = task->work->lane + block * ssm__s4_lane_count(core);
            ssm__zero(lane, ssm__s4_lane_count(core));
            ssm__s4_scan(&reverse, u + ssm__step(steps - 1, task->x_row), -task->x_row, y + (steps - 2) * H,
                         -(ptrdiff_t)H, steps - 1, lane, SSM_LANES);
        }
    }
}

/* --- the same in chunks of time, side by side, for diagonal A ---
 * A chunk maps its entering state s to Abar^SSM__CHUNK s + local, local what it leaves from zero.
 *
 *   1. every chunk but the last runs from zero: carry k+1 gets local
 *   2. carry k+1 becomes Abar^SSM__CHUNK carry k + local: a linear scan over chunks, one by one or in a tree
 *   3. every chunk runs from carry k and adds to its outputs */
typedef struct ssm__s4_chunks {
    const ssm__s4_task *task;
    size_t direction;
    const ssm_real *u; /* first step taken, first channel */
    ptrdiff_t u_row;
    ssm_real *y; /* NULL: pass 1 */
    ptrdiff_t y_row;
    size_t steps;
    size_t chunks;
    ssm_real *state; /* [state][part][H] entering -> leaving; NULL: zero, not wanted */
} ssm__s4_chunks;

/* Entering state n of chunk k, channels from `first` on: pairs if complex. */
static ssm_real *ssm__s4_chunk_carry(const ssm__s4_chunks *j, size_t k, size_t n, size_t first)
{
    const ssm_s4_core *core = j->task->core;
    return j->task->work->carry + ((k * core->states + n) * core->dim + first) * core->parts;
}

/* Chunk index / blocks of a block of channels, one state after the other. */
static void ssm__s4_chunk_run(void *context, size_t index)
{
    const ssm__s4_chunks *j = (const ssm__s4_chunks *)context;
    const ssm_s4_core *core = j->task->core;
    const size_t k = index / ssm__s4_blocks(core), first = index % ssm__s4_blocks(core) * SSM_LANES;
    const size_t from = k * SSM__CHUNK, steps = ssm__min(SSM__CHUNK, j->steps - from), W = core->parts;
    const ssm__s4_lanes lanes = ssm__s4_lanes_at(core, j->direction, first);
    const ssm_real *u = j->u + ssm__step(from, j->u_row) + first;
    ssm_real *y = j->y ? j->y + ssm__step(from, j->y_row) + first : NULL, s[2 * SSM_LANES];
    size_t n, i, r;
    if (y && j->direction == 0) ssm__s4_skip(core->D + first, u, j->u_row, y, (size_t)j->y_row, steps, lanes.lanes);
    for (n = 0; n < core->states; ++n) {
        const ssm__s4_lanes one = ssm__s4_lanes_state(lanes, n);
        const ssm_real *enter = ssm__s4_chunk_carry(j, k, n, first);
        ssm_real *leave = y ? NULL : ssm__s4_chunk_carry(j, k + 1, n, first);
        for (r = 0; r < W; ++r)
            for (i = 0; i < one.lanes; ++i) s[r * SSM_LANES + i] = y ? enter[i * W + r] : 0;
        ssm__s4_scan(&one, u, j->u_row, y, j->y_row, steps, s, SSM_LANES);
        for (r = 0; leave && r < W; ++r)
            for (i = 0; i < one.lanes; ++i) leave[i * W + r] = s[r * SSM_LANES + i];
        for (r = 0; y && j->state && k + 1 == j->chunks && r < W; ++r)
            ssm__copy(j->state + (n * W + r) * core->dim + first, s + r * SSM_LANES, one.lanes);
    }
}

/* Pass 2. */
static void ssm__s4_chunk_carries(const ssm__s4_chunks *j)
{
    const ssm_s4_core *core = j->task->core;
    const size_t count = ssm__s4_count(core), W = core->parts;
    ssm_real *carry = j->task->work->carry;
    ssm_linear_scan line = ssm__s4_line(core, j->chunks - 1);
    size_t n, h;
    for (n = 0; n < core->states; ++n)
        for (h = 0; h < core->dim; ++h) {
            const ssm__complex z = j->state ? ssm__s4_get(core, j->state, n, h) : ssm__c(0, 0);
            carry[(n * core->dim + h) * W] = z.re;
            if (W == 2) carry[(n * core->dim + h) * W + 1] = z.im;
        }
    if (line.len == 0) return;
    line.parallel = j->task->call->parallel;
    line.a = ssm__view(j->task->work->power, 0, 0, W, 0);
    line.b = ssm__view(carry + count, 0, count, W, 0);
    line.h = ssm_out_like(carry + count, line.b);
    line.h0 = ssm__view(carry, 0, 0, W, 0);
    ssm__linear_scan(&line, j->task->work->scan);
}

/* Abar^SSM__CHUNK, by squaring. */
static void ssm__s4_chunk_power(const ssm_s4_core *core, ssm_real *power)
{
    size_t n, h, bits;
    for (n = 0; n < core->states; ++n)
        for (h = 0; h < core->dim; ++h, power += core->parts) {
            ssm__complex z = ssm__c(1, 0), square = ssm__s4_get(core, core->a, n, h);
            for (bits = SSM__CHUNK; bits; bits /= 2) {
                if (bits % 2) z = ssm__c_mul(square, z);
                square = ssm__c_mul(square, square);
            }
            power[0] = z.re;
            if (core->parts == 2) power[1] = z.im;
            ssm__s4_flush(power, core->parts);
        }
}

static void ssm__s4_chunks_run(const ssm__s4_task *task, ssm__s4_chunks *j)
{
    const ssm_s4_core *core = task->core;
    const size_t blocks = ssm__s4_blocks(core), cost = j->steps * core->dim * core->d_state * 4;
    ssm_real *y = j->y;
    j->task = task;
    j->chunks = ssm__ceil_div(j->steps, SSM__CHUNK);
    j->y = NULL;
    ssm__parallel(task->call->parallel, (j->chunks - 1) * blocks, cost, ssm__s4_chunk_run, j);
    ssm__s4_chunk_carries(j);
    j->y = y;
    ssm__parallel(task->call->parallel, j->chunks * blocks, cost, ssm__s4_chunk_run, j);
}

/* The sequences of a tile, each longer than a chunk. */
static void ssm__s4_run_chunks(const ssm__s4_task *task)
{
    const ssm_s4_core *core = task->core;
    const size_t steps = task->call->tile.steps, H = core->dim;
    size_t b;
    ssm__s4_chunk_power(core, task->work->power);
    for (b = 0; b < task->call->tile.count; ++b) {
        const ssm_real *u = task->x + ssm__step(b * steps, task->x_row);
        ssm_real *y = task->s + b * steps * H;
        ssm__s4_chunks j;
        j.direction = 0;
        j.u = u;
        j.u_row = task->x_row;
        j.y = y;
        j.y_row = (ptrdiff_t)H;
        j.steps = steps;
        j.state = task->call->state + b * task->call->state_count;
        ssm__s4_chunks_run(task, &j);
        if (core->directions == 1) continue;
        j.direction = 1; /* as in ssm__s4_block_recurrent */
        j.u = u + ssm__step(steps - 1, task->x_row);
        j.u_row = -task->x_row;
        j.y = y + (steps - 2) * H;
        j.y_row = -(ptrdiff_t)H;
        j.steps = steps - 1;
        j.state = NULL;
        ssm__s4_chunks_run(task, &j);
    }
}

/* The spectrum of the kernels of a block; the reverse direction stands at the negative times. */
static void ssm__s4_kernel_spectrum(const ssm_s4_core *core, const ssm__s4_work *w, size_t block, size_t len)
{
    const size_t rows = 2 * w->n;
    ssm_real *kernel = w->kernel + block * rows * SSM_LANES, *lane = w->lane + block * ssm__s4_lane_count(core);
    ssm_real *cauchy = w->cauchy + block * ssm__s4_cauchy_count(core, len);
    ssm__zero(kernel, rows * SSM_LANES);
    ssm__s4_block_kernel(core, 0, block, kernel, SSM_LANES, len, lane, cauchy);
    if (core->directions == 2)
        ssm__s4_block_kernel(core, 1, block, kernel + (rows - 1) * SSM_LANES, -(ptrdiff_t)SSM_LANES, len, lane, cauchy);
    ssm__fft_forward(kernel, w->n, SSM_LANES, w->table);
}

/* What the entering state adds to y, and the leaving state. */
static void ssm__s4_carry(const ssm_s4_core *core, size_t first, const ssm_real *u, ptrdiff_t u_row, ssm_real *y,
                          size_t steps, ssm_real *state, ssm_real *lane)
{
    const ssm__s4_lanes k = ssm__s4_lanes_at(core, 0, first);
    ssm__zero(lane, ssm__s4_lane_count(core));
    ssm__s4_move(&k, lane, SSM_LANES, state, core->dim);
    ssm__s4_decay(&k, y, (ptrdiff_t)core->dim, steps, lane);
    ssm__s4_scan(&k, u, u_row, NULL, 0, steps, state, core->dim);
}

/* One block of channels by convolution. */
static void ssm__s4_block_convolve(void *context, size_t block)
{
    const ssm__s4_task *task = (const ssm__s4_task *)context;
    const ssm_s4_core *core = task->core;
    const ssm__s4_work *w = task->work;
    const ssm__tile *t = &task->call->tile;
    const size_t rows = 2 * w->n, steps = t->steps, H = core->dim, first = block * SSM_LANES;
    const size_t lanes = ssm__min(SSM_LANES, H - first);
    ssm_real *data = w->data + block * rows * SSM_LANES;
    size_t b, r;
    if (t->slot == 0) ssm__s4_kernel_spectrum(core, w, block, task->call->tile_rows);
    for (b = 0; b < t->count; ++b) {
        const ssm_real *u = task->x + ssm__step(b * steps, task->x_row) + first;
        ssm_real *y = task->s + b * steps * H + first;
        ssm__zero(data, rows * SSM_LANES);
        for (r = 0; r < steps; ++r) ssm__copy(data + r * SSM_LANES, u + ssm__step(r, task->x_row), lanes);
        ssm__fft_forward(data, w->n, SSM_LANES, w->table);
        ssm__fft_product(data, w->kernel + block * rows * SSM_LANES, w->n, SSM_LANES);
        ssm__fft_inverse(data, w->n, SSM_LANES, w->table);
        ssm__s4_skip(core->D + first, u, task->x_row, y, H, steps, lanes);
        for (r = 0; r < steps; ++r) ssm__axpy(y + r * H, 1, data + r * SSM_LANES, lanes);
        if (!task->call->no_state)
            ssm__s4_carry(core, first, u, task->x_row, y, steps,
                          task->call->state + b * task->call->state_count + first,
                          w->lane + block * ssm__s4_lane_count(core));
    }
}

/* Activation, output map and residual: from s to y. */
static void ssm__s4_finish(const ssm_s4_core *core, const ssm__call *call, const ssm__s4_work *w)
{
    const size_t rows = call->tile.count * call->tile.steps, H = core->dim;
    const ssm_real *g = w->mem.s;
    size_t r, i;
    if (core->activation) {
        for (i = 0; i < rows * H; ++i) w->g[i] = ssm__gelu(w->mem.s[i]);
        g = w->g;
    }
    if (core->output)
        ssm__linear(call->parallel, &core->out, g, (ptrdiff_t)H, NULL, 0, w->mem.v, (ptrdiff_t)(2 * H), rows);
    for (r = 0; r < rows; ++r) {
        const ssm_real *x = call->x + ssm__step(r, call->x_row), *v = core->output ? w->mem.v + r * 2 * H : NULL;
        ssm_real *y = call->y + ssm__step(r, call->y_row);
        for (i = 0; i < H; ++i) {
            const ssm_real value = core->output ? v[i] * ssm__sigmoid(v[H + i]) : g[r * H + i];
            y[i] = core->residual ? x[i] + value : value;
        }
    }
}

static void ssm__s4_run_tile(const ssm__call *call, int convolution)
{
    const ssm_s4_core *core = (const ssm_s4_core *)call->layer;
    const ssm__tile *t = &call->tile;
    const size_t rows = t->count * t->steps;
    const ptrdiff_t H = (ptrdiff_t)core->dim;
    ssm__s4_task task;
    ssm__s4_work w;
    ssm__s4_work_layout(core, call->tile_rows, convolution, call->work, &w);
    if (call->tape) {
        ssm__s4_tape tape;
        ssm__s4_tape_layout(core, call->tape_rows, call->tape_slots, call->tape, &tape);
        if (tape.mem.s) w.mem.s = tape.mem.s + t->row * core->dim;
        if (tape.mem.v) w.mem.v = tape.mem.v + t->row * 2 * core->dim;
        ssm__copy(tape.state + t->slot * call->state_count, call->state, t->count * call->state_count);
    }
    task.core = core;
    task.call = call;
    task.x = w.normed ? w.normed : call->x;
    task.x_row = w.normed ? H : call->x_row;
    task.work = &w;
    task.s = w.mem.s;
    if (w.normed) ssm__norm(&core->norm, call->x, call->x_row, w.normed, H, rows);
    if (convolution && t->slot == 0) ssm__fft_table(w.table, w.n);
    if (w.carry && t->steps > SSM__CHUNK) ssm__s4_run_chunks(&task);
    else
        ssm__parallel(call->parallel, ssm__s4_blocks(core), rows * core->dim * core->d_state * 4,
                      convolution ? ssm__s4_block_convolve : ssm__s4_block_recurrent, &task);
    ssm__s4_finish(core, call, &w);
}

static void ssm__s4_tile(const ssm__call *call)
{
    ssm__s4_run_tile(call, 0);
}

static void ssm__s4_conv_tile(const ssm__call *call)
{
    ssm__s4_run_tile(call, 1);
}

/* --- one step of each stream: the recurrence alone, on little memory --- */
/* [rows][H] s, which becomes its activation in place, [rows][2H] output map, [rows][H] normalised input. */
static size_t ssm__s4_step_work(const void *layer, size_t rows, size_t streams)
{
    const ssm_s4_core *core = (const ssm_s4_core *)layer;
    const size_t arrays = (size_t)(1 + (core->output ? 2 : 0) + (core->pre_norm ? 1 : 0));
    (void)streams;
    return ssm__block_bytes(ssm__mul(rows, ssm__mul(arrays, core->dim)));
}

static void ssm__s4_step_tile(const ssm__call *call)
{
    const ssm_s4_core *core = (const ssm_s4_core *)call->layer;
    const size_t rows = call->tile.count, count = rows * core->dim;
    const ptrdiff_t H = (ptrdiff_t)core->dim;
    ssm__s4_task task;
    ssm__s4_work w;
    w.mem.s = w.g = ssm__block_start(call->work);
    w.mem.v = w.mem.s + count;
    w.normed = core->output ? w.mem.v + 2 * count : w.mem.v;
    if (core->pre_norm) ssm__norm(&core->norm, call->x, call->x_row, w.normed, H, rows);
    task.core = core;
    task.call = call;
    task.x = core->pre_norm ? w.normed : call->x;
    task.x_row = core->pre_norm ? H : call->x_row;
    task.work = &w;
    task.s = w.mem.s;
    ssm__parallel(NULL, ssm__s4_blocks(core), count * core->d_state * 4, ssm__s4_block_recurrent, &task);
    ssm__s4_finish(core, call, &w);
}

/* --- backward of one tile --- */
typedef struct ssm__s4_task_backward {
    const ssm_s4_core *core;
    const ssm__call *call;
    const ssm_real *x; /* normalised */
    ptrdiff_t x_row;
    const ssm_real *state; /* entering */
    const ssm__s4_scratch *work;
} ssm__s4_task_backward;

static void ssm__s4_block_backward(void *context, size_t block)
{
    const ssm__s4_task_backward *task = (const ssm__s4_task_backward *)context;
    const ssm_s4_core *core = task->core;
    const ssm__call *call = task->call;
    const ssm__tile *t = &call->tile;
    const size_t first = block * SSM_LANES, steps = t->steps, H = core->dim;
    const ptrdiff_t row = (ptrdiff_t)H;
    const ssm__s4_lanes k = ssm__s4_lanes_at(core, 0, first);
    const ssm__s4_grad g = ssm__s4_grad_at(core, &task->work->grad, 0, first);
    const ssm__s4_history w = ssm__s4_history_at(core, task->work->history, call->tile_rows, block);
    ssm_real *dD = ssm__grad_at(call->dparams, core->offsets.D);
    size_t b, r, i;
    for (b = 0; b < t->count; ++b) {
        const ssm_real *u = task->x + ssm__step(b * steps, task->x_row) + first;
        const ssm_real *dy = task->work->ds + b * steps * H + first;
        ssm_real *du = task->work->dx + b * steps * H + first;
        const size_t at = b * call->state_count + first;
        ssm__s4_skip(core->D + first, dy, row, du, H, steps, k.lanes);
        for (r = 0; dD && r < steps; ++r)
            for (i = 0; i < k.lanes; ++i) dD[first + i] += dy[r * H + i] * u[ssm__step(r, task->x_row) + (ptrdiff_t)i];
        ssm__s4_adjoint(&k, &g, u, task->x_row, dy, row, du, row, steps, task->state + at, call->state + at, H, &w);
        if (core->directions == 2 && steps > 1) {
            const ssm__s4_lanes reverse = ssm__s4_lanes_at(core, 1, first);
            const ssm__s4_grad g_reverse = ssm__s4_grad_at(core, &task->work->grad, 1, first);
            ssm__s4_adjoint(&reverse, &g_reverse, u + ssm__step(steps - 1, task->x_row), -task->x_row,
                            dy + (steps - 2) * H, -row, du + (steps - 1) * H, -row, steps - 1, NULL, NULL, 0, &w);
        }
    }
}

/* dy to the gradient of s, in w->ds; adds those of the output map. */
static void ssm__s4_finish_backward(const ssm_s4_core *core, const ssm__call *call, const ssm__s4_mem *mem,
                                    const ssm__s4_scratch *w)
{
    const size_t rows = call->tile.count * call->tile.steps, H = core->dim;
    const ssm_real *g = mem->s;
    size_t r, i;
    for (r = 0; r < rows; ++r) {
        const ssm_real *dy = call->dy + ssm__step(r, call->dy_row), *v = core->output ? mem->v + r * 2 * H : NULL;
        for (i = 0; i < H; ++i) {
            if (core->output) {
                const ssm_real gate = ssm__sigmoid(v[H + i]);
                w->dv[r * 2 * H + i] = dy[i] * gate;
                w->dv[r * 2 * H + H + i] = dy[i] * v[i] * gate * (1 - gate);
            } else {
                w->ds[r * H + i] = dy[i];
            }
        }
    }
    if (core->output) {
        for (i = 0; w->g && i < rows * H; ++i) w->g[i] = ssm__gelu(mem->s[i]);
        if (w->g) g = w->g;
        ssm__zero(w->ds, rows * H);
        ssm__linear_backward(call->parallel, &core->out, g, (ptrdiff_t)H, w->dv, (ptrdiff_t)(2 * H), w->ds,
                             (ptrdiff_t)H, ssm__grad_at(call->dparams, core->offsets.out_weight),
                             ssm__grad_at(call->dparams, core->offsets.out_bias), rows);
    }
    for (i = 0; core->activation && i < rows * H; ++i) w->ds[i] *= ssm__gelu_derivative(mem->s[i]);
}

static void ssm__s4_tile_backward(const ssm__call *call)
{
    const ssm_s4_core *core = (const ssm_s4_core *)call->layer;
    const ssm__tile *t = &call->tile;
    const size_t rows = t->count * t->steps, H = core->dim;
    const ptrdiff_t row = (ptrdiff_t)H;
    ssm__s4_task_backward task;
    ssm__s4_scratch w;
    ssm__s4_tape tape;
    size_t r, i;
    ssm__s4_scratch_layout(core, call->tile_rows, call->work, &w);
    ssm__s4_tape_layout(core, call->tape_rows, call->tape_slots, call->tape, &tape);
    if (tape.mem.s) tape.mem.s += t->row * H;
    if (tape.mem.v) tape.mem.v += t->row * 2 * H;
    if (w.normed) ssm__norm(&core->norm, call->x, call->x_row, w.normed, row, rows);
    ssm__s4_finish_backward(core, call, &tape.mem, &w);
    ssm__s4_coefs_zero(core, &w.grad);
    task.core = core;
    task.call = call;
    task.x = w.normed ? w.normed : call->x;
    task.x_row = w.normed ? row : call->x_row;
    task.state = tape.state + t->slot * call->state_count;
    task.work = &w;
    ssm__parallel(call->parallel, ssm__s4_blocks(core), rows * core->dim * core->d_state * 12, ssm__s4_block_backward,
                  &task);
    for (i = 0; call->dparams && i < H; ++i) ssm__s4_coefs_adjoint(core, &w.grad, call->dparams, i);
    if (core->pre_norm)
        ssm__norm_backward(&core->norm, call->x, call->x_row, w.dx, row, call->dx, call->dx_row,
                           ssm__grad_at(call->dparams, core->offsets.norm), rows);
    for (r = 0; call->dx && r < rows; ++r) {
        const ssm_real *dy = call->dy + ssm__step(r, call->dy_row);
        ssm_real *dx = call->dx + ssm__step(r, call->dx_row);
        if (!core->pre_norm) ssm__axpy(dx, 1, w.dx + r * H, H);
        if (core->residual) ssm__axpy(dx, 1, dy, H);
    }
}

static const ssm__verb ssm__s4_verb_step = {ssm__s4_step_tile, ssm__s4_step_work, NULL};
static const ssm__verb ssm__s4_verb_forward = {ssm__s4_tile, ssm__s4_work_bytes, NULL};
static const ssm__verb ssm__s4_verb_convolve = {ssm__s4_conv_tile, ssm__s4_conv_work_bytes, NULL};
static const ssm__verb ssm__s4_verb_record = {ssm__s4_tile, ssm__s4_work_bytes, ssm__s4_tape_bytes};
static const ssm__verb ssm__s4_verb_backward = {ssm__s4_tile_backward, ssm__s4_work_backward_bytes, ssm__s4_tape_bytes};

/* --- what the verbs of both layers do --- */
static ssm_status ssm__s4_resolve(ssm_s4d_config *c)
{
    if (c->d_model == 0 || !(c->norm_eps >= 0)) return SSM_ERR_CONFIG;
    if ((unsigned)c->init > (unsigned)SSM_S4_INIT_REAL) return SSM_ERR_CONFIG;
    if ((unsigned)c->weights > (unsigned)SSM_S4_WEIGHTS_ONE) return SSM_ERR_CONFIG;
    if ((unsigned)c->form > (unsigned)SSM_S4_FORM_CONVOLUTION) return SSM_ERR_CONFIG;
    if ((unsigned)c->activation > (unsigned)SSM_S4_ACTIVATION_GELU) return SSM_ERR_CONFIG;
    if ((unsigned)c->output > (unsigned)SSM_S4_OUTPUT_GLU) return SSM_ERR_CONFIG;
    if (!ssm__disc_ok(c->disc) || c->disc == SSM_DISC_TRAPEZOID || !ssm__scan_ok(c->scan)) return SSM_ERR_CONFIG;
    if (!ssm__format_ok(c->format)) return SSM_ERR_CONFIG;
    if (c->d_state == 0) c->d_state = 64;
    if (c->n_ssm == 0) c->n_ssm = c->d_model;
    if (c->disc == SSM_DISC_DEFAULT) c->disc = SSM_DISC_ZOH;
    if (c->init == SSM_S4_INIT_DEFAULT) c->init = c->real_state ? SSM_S4_INIT_REAL : SSM_S4_INIT_LIN;
    if (c->dt_min == 0) c->dt_min = SSM__K(0.001);
    if (c->dt_max == 0) c->dt_max = SSM__K(0.1);
    if (c->norm_eps == 0) c->norm_eps = SSM__K(1e-5);
    if (c->d_model % c->n_ssm || (!c->real_state && c->d_state % 2)) return SSM_ERR_CONFIG;
    if (c->real_state && c->init == SSM_S4_INIT_LEGS) return SSM_ERR_CONFIG;
    return c->dt_min > 0 && c->dt_max >= c->dt_min ? SSM_OK : SSM_ERR_CONFIG;
}

static ssm_s4_core ssm__s4_core_of(const ssm_s4d_config *c, int low_rank, size_t l_max)
{
    static const ssm_s4_core none = SSM__EMPTY;
    ssm_s4_core core = none;
    core.dim = c->d_model;
    core.d_state = c->d_state;
    core.states = c->real_state ? c->d_state : c->d_state / 2;
    core.parts = c->real_state ? 1 : 2;
    core.n_ssm = c->n_ssm;
    core.directions = c->bidirectional ? 2 : 1;
    core.l_max = l_max;
    core.low_rank = low_rank;
    core.disc = c->disc;
    core.scan = c->scan;
    core.form = c->form;
    core.format = c->format;
    core.norm.eps = c->norm_eps;
    core.activation = c->activation;
    core.output = c->output;
    core.residual = c->residual != 0;
    core.pre_norm = c->pre_norm != 0;
    return core;
}

/* The row appended last is never decayed: the authors' rule for A, B, P and log_dt. */
static void ssm__param_keep(ssm_params *table)
{
    if (table->row && table->rows <= table->capacity) table->row[table->rows - 1].no_decay = 1;
}

/* A row [count][state][part] of complex numbers, or [count][state] of real ones. */
static size_t ssm__s4_param_weight(const ssm_s4_core *core, const char *prefix, const char *name, size_t count,
                                   ssm__init init, ssm_real a, ssm_params *table)
{
    if (core->parts == 1) return ssm__param_matrix(table, prefix, name, count, core->states, init, a);
    return ssm__param(table, prefix, name, 3, count, core->states, 2, init, a);
}

static void ssm__s4_params_A(ssm_s4_core *core, const ssm_s4d_config *c, const char *prefix, ssm_params *table)
{
    const char *name = core->low_rank ? "A_real" : "log_A_real";
    const ssm_real log_half = SSM__K(-0.69314718055994530942);
    ssm__init real = SSM__INIT_CONSTANT, imag = SSM__INIT_S4_LIN;
    if (c->init == SSM_S4_INIT_REAL) real = SSM__INIT_A_INTEGER;
    else if (c->real_state && c->init == SSM_S4_INIT_INV) real = SSM__INIT_A_INVERSE;
    core->offsets.A_real = ssm__param_matrix(table, prefix, name, c->n_ssm, core->states, real, log_half);
    ssm__param_keep(table);
    if (c->real_state) return;
    if (c->init == SSM_S4_INIT_INV) imag = SSM__INIT_S4_INV;
    else if (c->init == SSM_S4_INIT_LEGS) imag = SSM__INIT_S4_LEGS;
    else if (c->init == SSM_S4_INIT_REAL) imag = SSM__INIT_CONSTANT;
    core->offsets.A_imag = ssm__param_matrix(table, prefix, "A_imag", c->n_ssm, core->states, imag, 0);
    ssm__param_keep(table);
}

/* B, C and D: the rules of ssm_s4_weights. */
static void ssm__s4_params_BCD(ssm_s4_core *core, const ssm_s4d_config *c, const char *prefix, ssm_params *table)
{
    const ssm_real uniform = SSM__K(0.5) * ssm__fan_in(c->d_state);
    const ssm_real deviation = c->real_state ? 1 : SSM__K(0.70710678118654752440);
    ssm__init B = SSM__INIT_S4_ONE, C = SSM__INIT_NORMAL, D = SSM__INIT_NORMAL;
    ssm_real a_B = 1, a_C = deviation, a_D = 1;
    if (c->init == SSM_S4_INIT_LEGS) B = SSM__INIT_S4_LEGS_B;
    if (c->weights == SSM_S4_WEIGHTS_ALL_NORMAL) {
        B = SSM__INIT_NORMAL;
        a_B = deviation;
    } else if (c->weights == SSM_S4_WEIGHTS_UNIFORM) {
        B = C = SSM__INIT_UNIFORM;
        a_B = a_C = uniform;
        D = SSM__INIT_CONSTANT;
    } else if (c->weights == SSM_S4_WEIGHTS_ONE) {
        B = C = SSM__INIT_S4_ONE;
        D = SSM__INIT_CONSTANT;
        a_D = 0;
    }
    if (core->low_rank || c->train_B) {
        core->offsets.B = ssm__s4_param_weight(core, prefix, "B", c->n_ssm, B, a_B, table);
        ssm__param_keep(table);
    }
    core->offsets.C = ssm__s4_param_weight(core, prefix, "C", ssm__mul(core->directions, core->dim), C, a_C, table);
    core->offsets.D = ssm__param_vector(table, prefix, "D", core->dim, D, a_D);
}

/* Describes the parameters of a layer. */
static void ssm__s4_table(ssm_s4_core *core, const ssm_s4d_config *c, const char *prefix, ssm_params *table)
{
    const size_t H = core->dim, absent = SSM__SIZE_MAX;
    ssm_s4_offsets *o = &core->offsets;
    o->norm = o->log_dt = o->A_imag = o->P = o->B = o->out_weight = o->out_bias = absent;
    if (core->pre_norm) o->norm = ssm__param_vector(table, prefix, "norm.weight", H, SSM__INIT_CONSTANT, 1);
    if (!c->no_dt) {
        o->log_dt =
            ssm__param_vector(table, prefix, "log_dt", H, c->normal_dt ? SSM__INIT_NORMAL : SSM__INIT_LOG_UNIFORM,
                              c->normal_dt ? 1 : c->dt_min);
        if (!c->normal_dt) ssm__param_args(table, c->dt_max, 0);
    }
    ssm__s4_params_A(core, c, prefix, table);
    if (core->low_rank) {
        o->P = ssm__s4_param_weight(core, prefix, "P", c->n_ssm, SSM__INIT_S4_LEGS_B, SSM__K(0.70710678118654752440),
                                    table);
        ssm__param_keep(table);
    }
    ssm__s4_params_BCD(core, c, prefix, table);
    if (core->output) {
        o->out_weight = ssm__param_matrix(table, prefix, "output_linear.weight", ssm__mul(2, H), H, SSM__INIT_UNIFORM,
                                          ssm__fan_in(H));
        o->out_bias =
            ssm__param_vector(table, prefix, "output_linear.bias", ssm__mul(2, H), SSM__INIT_UNIFORM, ssm__fan_in(H));
    }
}

/* --- C from C~ = (1 - Abar^L)^T C, for checkpoints: dense, once, in bind --- */
/* out = a b, n x n. */
static void ssm__s4_multiply(const ssm_real *a, const ssm_real *b, ssm_real *out, size_t n)
{
    size_t i, j;
    ssm__zero(out, n * n);
    for (i = 0; i < n; ++i)
        for (j = 0; j < n; ++j) ssm__axpy(out + i * n, a[i * n + j], b + j * n, n);
}

/* m x = y in place of y, with partial pivoting; m is destroyed. */
static void ssm__s4_solve(ssm_real *m, ssm_real *y, size_t n)
{
    size_t i, j, k;
    for (k = 0; k < n; ++k) {
        size_t best = k;
        ssm_real swap;
        for (i = k + 1; i < n; ++i)
            if (m[i * n + k] * m[i * n + k] > m[best * n + k] * m[best * n + k]) best = i;
        for (j = k; j < n; ++j) {
            swap = m[k * n + j];
            m[k * n + j] = m[best * n + j];
            m[best * n + j] = swap;
        }
        swap = y[k];
        y[k] = y[best];
        y[best] = swap;
        for (i = k + 1; i < n; ++i) {
            const ssm_real factor = m[i * n + k] / m[k * n + k];
            ssm__axpy(m + i * n + k, -factor, m + k * n + k, n - k);
            y[i] -= factor * y[k];
        }
    }
    for (k = n; k-- > 0;) {
        y[k] /= m[k * n + k];
        for (i = 0; i < k; ++i) y[i] -= m[i * n + k] * y[k];
    }
}

/* Reals of scratch: three matrices and a vector. */
static size_t ssm__s4_plain_count(const ssm_s4_core *core)
{
    const size_t n = ssm__mul(core->states, core->parts);
    return ssm__add(ssm__mul(3, ssm__mul(n, n)), n);
}

/* One channel's c, bound from C~, becomes that of C. */
static void ssm__s4_plain_c(const ssm_s4_core *core, size_t direction, size_t h, ssm_real *c, ssm_real *scratch)
{
    const size_t n = core->states * core->parts;
    ssm__s4_lanes k = ssm__s4_lanes_at(core, direction, h);
    ssm_real *step = scratch, *power = step + n * n, *product = power + n * n, *v = product + n * n, *swap;
    size_t i, j, bits;
    k.lanes = 1;
    k = ssm__s4_transposed(k);
    for (j = 0; j < n; ++j) { /* columns of v -> v Abar */
        ssm__zero(v, n);
        v[j] = 1;
        ssm__s4_scan(&k, NULL, 0, NULL, 0, 1, v, 1);
        for (i = 0; i < n; ++i) {
            step[i * n + j] = v[i];
            power[i * n + j] = i == j ? SSM__K(1.0) : SSM__K(0.0);
        }
    }
    for (bits = core->l_max; bits; bits /= 2) {
        if (bits % 2) {
            ssm__s4_multiply(step, power, product, n);
            swap = power;
            power = product;
            product = swap;
        }
        ssm__s4_multiply(step, step, product, n);
        swap = step;
        step = product;
        product = swap;
    }
    for (i = 0; i < n; ++i) {
        for (j = 0; j < n; ++j) power[i * n + j] = (i == j ? SSM__K(1.0) : SSM__K(0.0)) - power[i * n + j];
        v[i] = c[i * core->dim];
    }
    ssm__s4_solve(power, v, n);
    for (i = 0; i < n; ++i) c[i * core->dim] = v[i];
}

/* The walk through a core's weights. */
static void ssm__s4_bind(void *layer, ssm__binder *b)
{
    ssm_s4_core *core = (ssm_s4_core *)layer;
    const ssm_s4_offsets *o = &core->offsets;
    const size_t count = ssm__s4_count(core);
    ssm__s4_coefs k;
    ssm_real *scratch = NULL;
    size_t h, d;
    core->a = ssm__bind_reals(b, count, &k.a);
    core->b = ssm__bind_reals(b, count, &k.b);
    core->c = ssm__bind_reals(b, ssm__mul(core->directions, count), &k.c);
    core->p = core->l = k.p = k.l = NULL;
    if (core->low_rank) {
        core->p = ssm__bind_reals(b, count, &k.p);
        core->l = ssm__bind_reals(b, count, &k.l);
    }
    if (core->l_max) ssm__bind_reals(b, ssm__s4_plain_count(core), &scratch);
    core->params = b->params;
    core->D = ssm__bind_copy(b, o->D, core->dim);
    ssm__bind_option(b, core->parts);
    ssm__bind_option(b, (size_t)core->activation);
    ssm__bind_option(b, (size_t)core->residual);
    ssm__bind_norm(&core->norm, b, o->norm, core->dim, core->norm.eps);
    if (core->output)
        ssm__bind_linear(&core->out, b, o->out_weight, o->out_bias, core->dim, 2 * core->dim, core->format);
    for (h = 0; k.a && h < core->dim; ++h) {
        ssm__s4_coefs_make(core, b->params, &k, h);
        for (d = 0; scratch && d < core->directions; ++d)
            ssm__s4_plain_c(core, d, h, k.c + d * ssm__s4_count(core) + h, scratch);
    }
}

static ssm_status ssm__s4_layer_bind(ssm_s4_core *core, const ssm_s4d_config *c, const ssm_real *params, void *mem,
                                     size_t mem_bytes, ssm_bound *bound)
{
    ssm_params table = ssm__own_table(NULL);
    ssm__s4_table(core, c, NULL, &table);
    return ssm__bind(ssm__s4_bind, core, params, mem, mem_bytes, bound);
}

static ssm_status ssm__s4_layer_attach(ssm_s4_core *core, const ssm_s4d_config *c, const void *data, size_t bytes,
                                       ssm_bound *bound)
{
    ssm_params table = ssm__own_table(NULL);
    ssm__s4_table(core, c, NULL, &table);
    return ssm__attach(ssm__s4_bind, core, data, bytes, bound);
}

static ssm_status ssm__s4_params(ssm_s4_core core, const ssm_s4d_config *c, const char *prefix, ssm_params *table)
{
    ssm_params copy;
    if (!table) return SSM_ERR_NULL;
    copy = *table;
    ssm__s4_table(&core, c, prefix, &copy);
    return ssm__params_commit(table, &copy);
}

static ssm__call ssm__s4_call(const ssm_s4_core *core)
{
    ssm__call call = ssm__call_of(core, core ? core->dim : 0, core ? ssm__s4_count(core) : 0);
    call.whole = core && (core->directions == 2 || ssm__scan_needs_whole(core->scan));
    call.has_params = core && core->params;
    return call;
}

static ssm__call ssm__s4_call_convolve(const ssm_s4_core *core)
{
    ssm__call call = ssm__s4_call(core);
    call.whole = 1;
    return call;
}

static ssm_status ssm__s4_sizes(ssm_s4_core core, const ssm_s4d_config *c, const ssm_seqs *seqs, ssm_sizes *need)
{
    ssm__memory memory = {ssm__s4_work_bytes, ssm__s4_step_work, ssm__s4_work_backward_bytes, ssm__s4_tape_bytes};
    ssm_params table = ssm__own_table(NULL);
    ssm_sizes sizes = SSM__EMPTY, other = SSM__EMPTY;
    ssm_status status;
    size_t bound;
    if (!need) return SSM_ERR_NULL;
    ssm__s4_table(&core, c, NULL, &table);
    bound = ssm__bound_bytes(ssm__s4_bind, &core);
    if (core.directions == 2) memory.work_step = NULL;
    status = ssm__layer_sizes(&memory, ssm__s4_call(&core), table.count, bound, seqs, &sizes);
    if (status == SSM_OK && core.form == SSM_S4_FORM_CONVOLUTION) {
        memory.work = ssm__s4_conv_work_bytes;
        status = ssm__layer_sizes(&memory, ssm__s4_call_convolve(&core), table.count, bound, seqs, &other);
        if (status == SSM_OK && other.work > sizes.work) sizes.work = other.work;
    }
    if (status == SSM_OK) *need = sizes;
    return status;
}

static ssm_status ssm__s4_forward(const ssm_s4_core *core, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  const ssm_seqs *seqs, void *work, size_t work_bytes)
{
    if (core && core->form == SSM_S4_FORM_CONVOLUTION && core->low_rank && !core->params) return SSM_ERR_UNSUPPORTED;
    if (core && core->form == SSM_S4_FORM_CONVOLUTION)
        return ssm__layer_forward(&ssm__s4_verb_convolve, ssm__s4_call_convolve(core), state, x, y, seqs, work,
                                  work_bytes);
    return ssm__layer_forward(&ssm__s4_verb_forward, ssm__s4_call(core), state, x, y, seqs, work, work_bytes);
}

static ssm_status ssm__s4_step(const ssm_s4_core *core, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                               void *work, size_t work_bytes)
{
    if (core && core->directions == 2) return SSM_ERR_UNSUPPORTED;
    return ssm__layer_step(&ssm__s4_verb_step, ssm__s4_call(core), state, x, y, streams, work, work_bytes);
}

static ssm_status ssm__s4_record(const ssm_s4_core *core, ssm_real *state, const ssm_real *x, ssm_real *y,
                                 const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes)
{
    if (core && core->l_max) return SSM_ERR_UNSUPPORTED;
    return ssm__layer_record(&ssm__s4_verb_record, ssm__s4_call(core), state, x, y, seqs, tape, tape_bytes, work,
                             work_bytes);
}

static ssm_status ssm__s4_backward(const ssm_s4_core *core, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                   ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                   size_t tape_bytes, void *work, size_t work_bytes)
{
    if (core && core->l_max) return SSM_ERR_UNSUPPORTED;
    return ssm__layer_backward(&ssm__s4_verb_backward, ssm__s4_call(core), dstate, x, dy, dx, dparams, seqs, tape,
                               tape_bytes, work, work_bytes);
}

/* --- kernels as verbs --- */
typedef struct ssm__s4_kernel_work {
    ssm_real *rows; /* [len][SSM_LANES]: kernels, or their gradients */
    ssm_real *unit; /* [len][SSM_LANES]: an impulse */
    ssm_real *lane;
    ssm_real *cauchy;
    ssm_real *drow; /* as ssm__s4_cauchy.row */
    ssm__s4_coefs grad;
    ssm__s4_history history; /* of one block */
} ssm__s4_kernel_work;

static size_t ssm__s4_kernel_layout(const ssm_s4_core *core, size_t len, void *mem, ssm__s4_kernel_work *w)
{
    ssm__arena arena = ssm__arena_open(mem);
    ssm_s4_core block = *core;
    block.dim = ssm__min(core->dim, SSM_LANES);
    w->rows = ssm__take(&arena, ssm__mul(len, SSM_LANES));
    w->unit = core->low_rank ? NULL : ssm__take(&arena, ssm__mul(len, SSM_LANES));
    w->lane = ssm__take(&arena, ssm__s4_lane_count(core));
    w->cauchy = ssm__take(&arena, ssm__s4_cauchy_count(core, len));
    w->drow = ssm__take(&arena, ssm__s4_lane_count(core));
    w->grad = ssm__s4_coefs_take(core, &arena);
    ssm__s4_history_take(&block, &arena, core->low_rank ? ssm__fft_size(len) : len, &w->history);
    return ssm__arena_bytes(&arena);
}

static ssm_status ssm__s4_kernel_size(const ssm_s4_core *core, size_t len, size_t *bytes)
{
    ssm__s4_kernel_work w;
    size_t need;
    if (!core || !bytes) return SSM_ERR_NULL;
    need = len ? ssm__s4_kernel_layout(core, len, NULL, &w) : 0;
    if (need == SSM__SIZE_MAX) return SSM_ERR_OVERFLOW;
    *bytes = need;
    return SSM_OK;
}

static ssm_status ssm__s4_kernel_check(const ssm_s4_core *core, size_t len, const void *in, const void *out, void *work,
                                       size_t work_bytes)
{
    size_t need = 0;
    ssm_status status = ssm__s4_kernel_size(core, len, &need);
    if (status == SSM_OK) status = ssm__check_block(work, work_bytes, need);
    if (status == SSM_OK && len && (!in || !out)) status = SSM_ERR_NULL;
    return status;
}

static ssm_status ssm__s4_kernel(const ssm_s4_core *core, ssm_real *kernel, size_t len, void *work, size_t work_bytes)
{
    ssm__s4_kernel_work w;
    size_t d, block, i, l;
    ssm_status status = ssm__s4_kernel_check(core, len, kernel, kernel, work, work_bytes);
    if (status != SSM_OK || len == 0) return status;
    if (core->low_rank && !core->params) return SSM_ERR_UNSUPPORTED;
    ssm__s4_kernel_layout(core, len, work, &w);
    for (d = 0; d < core->directions; ++d) {
        for (block = 0; block < ssm__s4_blocks(core); ++block) {
            const size_t lanes = ssm__min(SSM_LANES, core->dim - block * SSM_LANES);
            const size_t first = d * core->dim + block * SSM_LANES;
            ssm__s4_block_kernel(core, d, block, w.rows, SSM_LANES, len, w.lane, w.cauchy);
            for (i = 0; i < lanes; ++i)
                for (l = 0; l < len; ++l) kernel[(first + i) * len + l] = w.rows[l * SSM_LANES + i];
        }
    }
    return SSM_OK;
}

/* Adjoint of x = tau/w (r1 - theta r2 r3 / (1 + theta r4)): gradient gx to those of r; returns tau's. */
static ssm_real ssm__s4_woodbury_adjoint(const ssm__complex r[4], ssm__complex half, ssm_real tau, ssm__complex gx,
                                         ssm__complex g[4], ssm_real *gtheta)
{
    const ssm_real theta = tau * half.re;
    const ssm__complex m = ssm__c_inverse(ssm__c(1 + theta * r[3].re, theta * r[3].im));
    const ssm__complex r23 = ssm__c_mul(r[1], r[2]), x = ssm__c_sub(r[0], ssm__c_scale(theta, ssm__c_mul(r23, m)));
    const ssm__complex m2 = ssm__c_mul(m, m);
    ssm__complex gm;
    g[0] = ssm__c_scale(tau, ssm__c_mul_conj(half, gx));
    g[1] = ssm__c_scale(-theta, ssm__c_mul_conj(ssm__c_mul(r[2], m), g[0]));
    g[2] = ssm__c_scale(-theta, ssm__c_mul_conj(ssm__c_mul(r[1], m), g[0]));
    gm = ssm__c_scale(-theta, ssm__c_mul_conj(r23, g[0]));
    g[3] = ssm__c_scale(-theta, ssm__c_mul_conj(m2, gm));
    *gtheta = -ssm__c_dot(g[0], ssm__c_mul(r23, m)) - ssm__c_dot(gm, ssm__c_mul(m2, r[3]));
    return ssm__c_dot(gx, ssm__c_mul(half, x));
}

/* Adjoint of ssm__s4_cauchy_sums: adds to dlambda and dv; returns theta's gradient. */
static ssm_real ssm__s4_sums_adjoint(size_t S, const ssm__s4_cauchy *w, ssm_real theta, ssm_real s,
                                     const ssm__complex g[4])
{
    ssm_real gtheta = 0;
    size_t n, q;
    for (n = 0; n < S; ++n) {
        const ssm__complex lambda = ssm__c_load(w->lambda + 2 * n);
        ssm__complex plus, minus, gplus = ssm__c(0, 0), gminus = ssm__c(0, 0), gd;
        ssm__s4_resolvent(w->lambda + 2 * n, theta, s, &plus, &minus);
        for (q = 0; q < 4; ++q) {
            ssm_real *dv = w->dv + 2 * (q * S + n);
            const ssm__complex v = ssm__c_load(w->v + 2 * (q * S + n));
            gplus = ssm__c_add(gplus, ssm__c_mul_conj(v, g[q]));
            gminus = ssm__c_add(gminus, ssm__c_mul(v, g[q]));
            gd = ssm__c_add(ssm__c_mul_conj(plus, g[q]), ssm__c_mul_conj(g[q], minus));
            ssm__c_store(dv, ssm__c_add(ssm__c_load(dv), gd));
        }
        gd = ssm__c_mul_conj(ssm__c_mul(plus, plus), gplus); /* minus the denominator's gradient */
        gtheta += ssm__c_dot(gd, lambda);
        gplus = gd;
        gd = ssm__c_mul_conj(ssm__c_mul(minus, minus), gminus);
        gtheta += ssm__c_dot(gd, ssm__c_conj(lambda));
        gd = ssm__c_scale(theta, ssm__c_add(gplus, ssm__c_conj(gd)));
        ssm__c_store(w->dlambda + 2 * n, ssm__c_add(ssm__c_load(w->dlambda + 2 * n), gd));
    }
    return gtheta;
}

/* Adjoint of ssm__s4_cauchy_open: to the parameters, to gc (of the bound c) and drow. */
static void ssm__s4_cauchy_close(const ssm_s4_core *core, const ssm__s4_lanes *k, size_t h, size_t i,
                                 const ssm__s4_cauchy *w, ssm_real *dparams, ssm_real *gc, ssm_real *drow)
{
    const size_t S = core->states, row = h % core->n_ssm;
    const ssm_s4_offsets *o = &core->offsets;
    size_t n;
    for (n = 0; n < S; ++n) {
        const ssm__complex P = ssm__s4_weight(core, core->params, o->P, row, n, 0);
        const ssm__complex B = ssm__s4_weight(core, core->params, o->B, row, n, 0);
        const ssm__complex g1 = ssm__c_load(w->dv + 2 * n), g2 = ssm__c_load(w->dv + 2 * (S + n));
        const ssm__complex g3 = ssm__c_load(w->dv + 2 * (2 * S + n));
        const ssm_real *c = k->c + 2 * n * k->dim + i, *v = w->row + 2 * n * SSM_LANES + i;
        const ssm__complex C = ssm__c(SSM__K(0.5) * (c[0] - v[0]), SSM__K(0.5) * (c[k->dim] - v[SSM_LANES]));
        const ssm__complex gC = ssm__c_scale(SSM__K(0.5), ssm__c_add(ssm__c_mul_conj(B, g1), ssm__c_mul_conj(P, g2)));
        ssm__complex gP = ssm__c_add(ssm__c_mul_conj(C, g2), ssm__c_mul_conj(g3, B));
        gP = ssm__c_add(gP, ssm__c_scale(2 * w->dv[2 * (3 * S + n)], P));
        ssm__s4_weight_add(core, dparams, o->P, row, n, gP);
        ssm__s4_weight_add(core, dparams, o->B, row, n, ssm__c_add(ssm__c_mul_conj(C, g1), ssm__c_mul(P, g3)));
        ssm__s4_A_adjoint(core, dparams, h, n, ssm__c_load(w->lambda + 2 * n), ssm__c_load(w->dlambda + 2 * n));
        gc[2 * n * core->dim] += gC.re;
        gc[(2 * n + 1) * core->dim] += gC.im;
        drow[2 * n * SSM_LANES] = -gC.re;
        drow[(2 * n + 1) * SSM_LANES] = -gC.im;
    }
}

/* Adjoint of ssm__s4_cauchy_kernel, from the gradient of K, [len] reals SSM_LANES apart. */
static void ssm__s4_cauchy_adjoint(const ssm_s4_core *core, const ssm__s4_lanes *k, size_t h, size_t i,
                                   const ssm__s4_cauchy *w, const ssm_real *dk, size_t len, ssm_real *dparams,
                                   ssm_real *gc, ssm_real *drow)
{
    const ssm_real tau = SSM__K(0.5) * ssm__s4_delta(core, core->params, h);
    const size_t n = w->n;
    ssm_real gtau = 0;
    size_t j, l;
    ssm__zero(w->dlambda, 2 * core->states);
    ssm__zero(w->dv, 8 * core->states);
    ssm__zero(w->buffer, 2 * n);
    for (l = 0; l < len; ++l) w->buffer[2 * l] = dk[l * SSM_LANES];
    ssm__fft_forward(w->buffer, n, 1, w->table);
    ssm__s4_cauchy_open(core, k, h, i, w);
    for (j = 0; j <= n / 2; ++j) {
        const ssm__complex half = ssm__c_conj(ssm__twiddle(j, 2 * n));
        const ssm_real weight = (j == 0 || 2 * j == n ? SSM__K(1.0) : SSM__K(2.0)) / (ssm_real)n;
        const ssm__complex gx = ssm__c_scale(weight, ssm__c_load(w->buffer + 2 * ssm__fft_reversed(j, n)));
        ssm__complex r[4], g[4];
        ssm_real gtheta = 0;
        ssm__s4_cauchy_sums(core->states, w, tau * half.re, half.im, r);
        gtau += ssm__s4_woodbury_adjoint(r, half, tau, gx, g, &gtheta);
        gtheta += ssm__s4_sums_adjoint(core->states, w, tau * half.re, half.im, g);
        gtau += gtheta * half.re;
    }
    ssm__s4_cauchy_close(core, k, h, i, w, dparams, gc, drow);
    ssm__s4_delta_adjoint(core, dparams, h, 2 * tau, SSM__K(0.5) * gtau);
}

/* Gradients of one block: through the spectrum and C Abar^n for S4, through the impulse for S4D. */
static void ssm__s4_block_kernel_adjoint(const ssm_s4_core *core, size_t direction, size_t block, size_t len,
                                         ssm_real *dparams, const ssm__s4_kernel_work *w)
{
    const size_t first = block * SSM_LANES;
    const ssm__s4_lanes k = ssm__s4_lanes_at(core, direction, first);
    const ssm__s4_grad grad = ssm__s4_grad_at(core, &w->grad, direction, first);
    ssm__s4_cauchy cauchy;
    ssm__s4_lanes transposed;
    ssm__s4_grad swapped = grad;
    size_t i, r;
    if (!core->low_rank) {
        ssm__zero(w->unit, len * SSM_LANES);
        for (i = 0; i < SSM_LANES; ++i) w->unit[i] = 1;
        ssm__s4_adjoint(&k, &grad, w->unit, SSM_LANES, w->rows, SSM_LANES, NULL, 0, len, NULL, NULL, 0, &w->history);
        return;
    }
    ssm__s4_cauchy_layout(core, len, w->cauchy, &cauchy);
    ssm__fft_table(cauchy.table, cauchy.n);
    ssm__s4_cauchy_power(core, &k, &cauchy);
    for (i = 0; i < k.lanes; ++i)
        ssm__s4_cauchy_adjoint(core, &k, first + i, i, &cauchy, w->rows + i, len, dparams, grad.c + i, w->drow + i);
    transposed = ssm__s4_transposed(k);
    swapped.p = grad.l;
    swapped.l = grad.p;
    ssm__s4_move(&k, w->lane, SSM_LANES, k.c, k.dim);
    ssm__s4_adjoint(&transposed, &swapped, NULL, 0, NULL, 0, NULL, 0, cauchy.n, w->lane, w->drow, SSM_LANES,
                    &w->history);
    for (r = 0; r < 2 * k.states; ++r)
        for (i = 0; i < k.lanes; ++i) grad.c[r * k.dim + i] += w->drow[r * SSM_LANES + i];
}

static ssm_status ssm__s4_kernel_backward(const ssm_s4_core *core, const ssm_real *dkernel, ssm_real *dparams,
                                          size_t len, void *work, size_t work_bytes)
{
    ssm__s4_kernel_work w;
    size_t d, block, i, l;
    ssm_status status = ssm__s4_kernel_check(core, len, dkernel, dparams, work, work_bytes);
    if (status != SSM_OK || len == 0) return status;
    if (core->l_max || !core->params) return SSM_ERR_UNSUPPORTED;
    ssm__s4_kernel_layout(core, len, work, &w);
    ssm__s4_coefs_zero(core, &w.grad);
    for (d = 0; d < core->directions; ++d) {
        for (block = 0; block < ssm__s4_blocks(core); ++block) {
            const size_t lanes = ssm__min(SSM_LANES, core->dim - block * SSM_LANES);
            const size_t first = d * core->dim + block * SSM_LANES;
            ssm__zero(w.rows, len * SSM_LANES);
            for (i = 0; i < lanes; ++i)
                for (l = 0; l < len; ++l) w.rows[l * SSM_LANES + i] = dkernel[(first + i) * len + l];
            ssm__s4_block_kernel_adjoint(core, d, block, len, dparams, &w);
        }
    }
    for (i = 0; i < core->dim; ++i) ssm__s4_coefs_adjoint(core, &w.grad, dparams, i);
    return SSM_OK;
}

/*=============================================================================
 * >>layer-s4d
 *===========================================================================*/
/* --- config --- */
SSM_API void ssm_s4d_preset(ssm_s4d_config *config, ssm_preset preset)
{
    if (preset != SSM_PRESET_TRACETORCH && preset != SSM_PRESET_ZERFOO) return;
    config->real_state = 1;
    config->train_B = 1;
    config->init = SSM_S4_INIT_REAL;
    if (preset == SSM_PRESET_TRACETORCH) {
        config->disc = SSM_DISC_ZOH;
        config->weights = SSM_S4_WEIGHTS_ALL_NORMAL;
        config->normal_dt = 1;
    } else {
        config->disc = SSM_DISC_DIRAC;
        config->no_dt = 1;
        config->weights = SSM_S4_WEIGHTS_UNIFORM;
    }
}

SSM_API ssm_status ssm_s4d_config_resolve(const ssm_s4d_config *config, ssm_s4d_config *resolved)
{
    ssm_s4d_config c;
    ssm_status status;
    if (!config || !resolved) return SSM_ERR_NULL;
    c = *config;
    status = ssm__s4_resolve(&c);
    if (status == SSM_OK) *resolved = c;
    return status;
}

static ssm_s4_core ssm__s4d_core(const ssm_s4d_config *config)
{
    return ssm__s4_core_of(config, 0, 0);
}

/* --- weights --- */
SSM_API ssm_status ssm_s4d_params(const ssm_s4d_config *config, const char *prefix, ssm_params *table)
{
    ssm_s4d_config c;
    ssm_status status = ssm_s4d_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    return ssm__s4_params(ssm__s4d_core(&c), &c, prefix, table);
}

/* --- sizes --- */
SSM_API ssm_status ssm_s4d_sizes(const ssm_s4d_config *config, const ssm_seqs *seqs, ssm_sizes *need)
{
    ssm_s4d_config c;
    ssm_status status = ssm_s4d_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    return ssm__s4_sizes(ssm__s4d_core(&c), &c, seqs, need);
}

/* --- init --- */
SSM_API ssm_status ssm_s4d_init(const ssm_s4d_config *config, ssm_real *params, uint64_t seed)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = ssm__own_table(rows);
    ssm_status status = ssm_s4d_params(config, NULL, &table);
    return status == SSM_OK ? ssm_params_init(&table, params, seed) : status;
}

/* --- bind --- */
SSM_API ssm_status ssm_s4d_bind(ssm_s4d *layer, const ssm_s4d_config *config, const ssm_real *params, void *mem,
                                size_t mem_bytes)
{
    ssm_s4d bound;
    ssm_status status = ssm_s4d_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer || !params) return SSM_ERR_NULL;
    bound.core = ssm__s4d_core(&bound.config);
    status = ssm__s4_layer_bind(&bound.core, &bound.config, params, mem, mem_bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

SSM_API ssm_status ssm_s4d_attach(ssm_s4d *layer, const ssm_s4d_config *config, const void *data, size_t bytes)
{
    ssm_s4d bound;
    ssm_status status = ssm_s4d_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer) return SSM_ERR_NULL;
    bound.core = ssm__s4d_core(&bound.config);
    status = ssm__s4_layer_attach(&bound.core, &bound.config, data, bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

/* --- forward, step --- */
SSM_API ssm_status ssm_s4d_forward(const ssm_s4d *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                   const ssm_seqs *seqs, void *work, size_t work_bytes)
{
    return ssm__s4_forward(layer ? &layer->core : NULL, state, x, y, seqs, work, work_bytes);
}

SSM_API ssm_status ssm_s4d_step(const ssm_s4d *layer, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                                void *work, size_t work_bytes)
{
    return ssm__s4_step(layer ? &layer->core : NULL, state, x, y, streams, work, work_bytes);
}

/* --- backward --- */
SSM_API ssm_status ssm_s4d_record(const ssm_s4d *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes)
{
    return ssm__s4_record(layer ? &layer->core : NULL, state, x, y, seqs, tape, tape_bytes, work, work_bytes);
}

SSM_API ssm_status ssm_s4d_backward(const ssm_s4d *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                    ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                    size_t tape_bytes, void *work, size_t work_bytes)
{
    return ssm__s4_backward(layer ? &layer->core : NULL, dstate, x, dy, dx, dparams, seqs, tape, tape_bytes, work,
                            work_bytes);
}

/* --- kernel --- */
SSM_API ssm_status ssm_s4d_kernel_size(const ssm_s4d *layer, size_t len, size_t *bytes)
{
    return ssm__s4_kernel_size(layer ? &layer->core : NULL, len, bytes);
}

SSM_API ssm_status ssm_s4d_kernel(const ssm_s4d *layer, ssm_real *kernel, size_t len, void *work, size_t work_bytes)
{
    return ssm__s4_kernel(layer ? &layer->core : NULL, kernel, len, work, work_bytes);
}

SSM_API ssm_status ssm_s4d_kernel_backward(const ssm_s4d *layer, const ssm_real *dkernel, ssm_real *dparams, size_t len,
                                           void *work, size_t work_bytes)
{
    return ssm__s4_kernel_backward(layer ? &layer->core : NULL, dkernel, dparams, len, work, work_bytes);
}

/*=============================================================================
 * >>layer-s4
 *===========================================================================*/
/* --- config --- */
/* What S4 has in common with S4D: everything but the low rank. */
static ssm_s4d_config ssm__s4_options(const ssm_s4_config *c)
{
    static const ssm_s4d_config none = SSM__EMPTY;
    ssm_s4d_config s = none;
    s.d_model = c->d_model;
    s.d_state = c->d_state;
    s.n_ssm = c->n_ssm;
    s.train_B = 1;
    s.disc = SSM_DISC_BILINEAR;
    s.scan = c->scan;
    s.init = SSM_S4_INIT_LEGS;
    s.dt_min = c->dt_min;
    s.dt_max = c->dt_max;
    s.form = c->form;
    s.format = c->format;
    s.bidirectional = c->bidirectional;
    s.activation = c->activation;
    s.output = c->output;
    s.pre_norm = c->pre_norm;
    s.residual = c->residual;
    s.norm_eps = c->norm_eps;
    return s;
}

SSM_API ssm_status ssm_s4_config_resolve(const ssm_s4_config *config, ssm_s4_config *resolved)
{
    ssm_s4d_config options;
    ssm_s4_config c;
    ssm_status status;
    if (!config || !resolved) return SSM_ERR_NULL;
    c = *config;
    options = ssm__s4_options(&c);
    status = ssm__s4_resolve(&options);
    if (status != SSM_OK) return status;
    if (ssm__scan_needs_whole(c.scan)) return SSM_ERR_UNSUPPORTED;
    c.d_state = options.d_state;
    c.n_ssm = options.n_ssm;
    c.dt_min = options.dt_min;
    c.dt_max = options.dt_max;
    c.norm_eps = options.norm_eps;
    *resolved = c;
    return SSM_OK;
}

static ssm_s4_core ssm__s4_core(const ssm_s4_config *config)
{
    const ssm_s4d_config options = ssm__s4_options(config);
    return ssm__s4_core_of(&options, 1, config->l_max);
}

/* --- weights --- */
SSM_API ssm_status ssm_s4_params(const ssm_s4_config *config, const char *prefix, ssm_params *table)
{
    ssm_s4_config c;
    ssm_s4d_config options;
    ssm_status status = ssm_s4_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    options = ssm__s4_options(&c);
    return ssm__s4_params(ssm__s4_core(&c), &options, prefix, table);
}

/* --- sizes --- */
SSM_API ssm_status ssm_s4_sizes(const ssm_s4_config *config, const ssm_seqs *seqs, ssm_sizes *need)
{
    ssm_s4_config c;
    ssm_s4d_config options;
    ssm_status status = ssm_s4_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    options = ssm__s4_options(&c);
    return ssm__s4_sizes(ssm__s4_core(&c), &options, seqs, need);
}

/* --- init --- */
SSM_API ssm_status ssm_s4_init(const ssm_s4_config *config, ssm_real *params, uint64_t seed)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = ssm__own_table(rows);
    ssm_status status = ssm_s4_params(config, NULL, &table);
    return status == SSM_OK ? ssm_params_init(&table, params, seed) : status;
}

/* --- bind --- */
SSM_API ssm_status ssm_s4_bind(ssm_s4 *layer, const ssm_s4_config *config, const ssm_real *params, void *mem,
                               size_t mem_bytes)
{
    ssm_s4d_config options;
    ssm_s4 bound;
    ssm_status status = ssm_s4_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer || !params) return SSM_ERR_NULL;
    options = ssm__s4_options(&bound.config);
    bound.core = ssm__s4_core(&bound.config);
    status = ssm__s4_layer_bind(&bound.core, &options, params, mem, mem_bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

SSM_API ssm_status ssm_s4_attach(ssm_s4 *layer, const ssm_s4_config *config, const void *data, size_t bytes)
{
    ssm_s4d_config options;
    ssm_s4 bound;
    ssm_status status = ssm_s4_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer) return SSM_ERR_NULL;
    options = ssm__s4_options(&bound.config);
    bound.core = ssm__s4_core(&bound.config);
    status = ssm__s4_layer_attach(&bound.core, &options, data, bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

/* --- forward, step --- */
SSM_API ssm_status ssm_s4_forward(const ssm_s4 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  const ssm_seqs *seqs, void *work, size_t work_bytes)
{
    return ssm__s4_forward(layer ? &layer->core : NULL, state, x, y, seqs, work, work_bytes);
}

SSM_API ssm_status ssm_s4_step(const ssm_s4 *layer, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                               void *work, size_t work_bytes)
{
    return ssm__s4_step(layer ? &layer->core : NULL, state, x, y, streams, work, work_bytes);
}

/* --- backward --- */
SSM_API ssm_status ssm_s4_record(const ssm_s4 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                 const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes)
{
    return ssm__s4_record(layer ? &layer->core : NULL, state, x, y, seqs, tape, tape_bytes, work, work_bytes);
}

SSM_API ssm_status ssm_s4_backward(const ssm_s4 *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                   ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                   size_t tape_bytes, void *work, size_t work_bytes)
{
    return ssm__s4_backward(layer ? &layer->core : NULL, dstate, x, dy, dx, dparams, seqs, tape, tape_bytes, work,
                            work_bytes);
}

/* --- kernel --- */
SSM_API ssm_status ssm_s4_kernel_size(const ssm_s4 *layer, size_t len, size_t *bytes)
{
    return ssm__s4_kernel_size(layer ? &layer->core : NULL, len, bytes);
}

SSM_API ssm_status ssm_s4_kernel(const ssm_s4 *layer, ssm_real *kernel, size_t len, void *work, size_t work_bytes)
{
    return ssm__s4_kernel(layer ? &layer->core : NULL, kernel, len, work, work_bytes);
}

SSM_API ssm_status ssm_s4_kernel_backward(const ssm_s4 *layer, const ssm_real *dkernel, ssm_real *dparams, size_t len,
                                          void *work, size_t work_bytes)
{
    return ssm__s4_kernel_backward(layer ? &layer->core : NULL, dkernel, dparams, len, work, work_bytes);
}

SSM_API ssm_status ssm_s4_plain_C(const ssm_s4 *layer, ssm_real *params)
{
    const ssm_s4_core *core = layer ? &layer->core : NULL;
    size_t d, h, n;
    if (!core || !params) return SSM_ERR_NULL;
    if (!core->l_max) return SSM_ERR_CONFIG;
    for (d = 0; d < core->directions; ++d)
        for (h = 0; h < core->dim; ++h)
            for (n = 0; n < core->states; ++n)
                ssm__c_store(params + core->offsets.C + ((d * core->dim + h) * core->states + n) * 2,
                             ssm__c_scale(SSM__K(0.5), ssm__s4_get(core, core->c + d * ssm__s4_count(core), n, h)));
    return SSM_OK;
}

/*=============================================================================
 * >>layer-s5
 *=============================================================================
 * B and C are real matrices here, acting on (re, im) pairs: v = B u has 2P rows, k Re(C h) has 2P
 * columns. "Width" is the number of reals in a state: 2, or 1 with real_state. The recurrence
 * h = a h + b v keeps b apart from B, so that the same arithmetic serves with and without step_scale.
 */
/* --- config --- */
SSM_API void ssm_s5_preset(ssm_s5_config *config, ssm_preset preset)
{
    if (preset != SSM_PRESET_TRACETORCH) return;
    config->real_state = 1;
    config->activation = SSM_S5_NONE;
}

SSM_API ssm_status ssm_s5_config_resolve(const ssm_s5_config *config, ssm_s5_config *resolved)
{
    ssm_s5_config c;
    ssm_status status;
    if (!config || !resolved) return SSM_ERR_NULL;
    c = *config;
    if (c.d_model == 0 || (unsigned)c.activation > (unsigned)SSM_S5_NONE) return SSM_ERR_CONFIG;
    if (c.d_state == 0) c.d_state = 64;
    if (c.blocks == 0) c.blocks = 1;
    if (c.real_state) c.no_conj_sym = 1;
    if (c.dt_min == 0) c.dt_min = SSM__K(0.001);
    if (c.dt_max == 0) c.dt_max = SSM__K(0.1);
    if (c.step_rescale == 0) c.step_rescale = 1;
    if (c.norm_eps == 0) c.norm_eps = SSM__K(1e-5);
    if (!(c.dt_min > 0 && c.dt_max >= c.dt_min && c.step_rescale > 0 && c.norm_eps > 0)) return SSM_ERR_CONFIG;
    if (c.d_state % ssm__mul(c.blocks, c.no_conj_sym ? 1 : 2)) return SSM_ERR_CONFIG;
    status = ssm__options_resolve(&c.disc, SSM_DISC_ZOH, c.scan, c.format);
    if (status != SSM_OK) return status;
    if (c.disc == SSM_DISC_TRAPEZOID) return SSM_ERR_CONFIG;
    *resolved = c;
    return SSM_OK;
}

/* --- weights --- */
static size_t ssm__s5_states(const ssm_s5_config *c) /* P */
{
    return c->no_conj_sym ? c->d_state : c->d_state / 2;
}

static size_t ssm__s5_width(const ssm_s5_config *c)
{
    return c->real_state ? 1 : 2;
}

static size_t ssm__s5_row(const ssm_s5_config *c) /* reals in the states of one direction */
{
    return ssm__mul(ssm__s5_width(c), ssm__s5_states(c));
}

static size_t ssm__s5_dirs(const ssm_s5_config *c)
{
    return c->bidirectional ? 2 : 1;
}

static int ssm__s5_has_glu(const ssm_s5_config *c)
{
    return c->activation != SSM_S5_GELU && c->activation != SSM_S5_NONE;
}

typedef struct ssm__s5_offsets {
    size_t norm;
    size_t lambda_re; /* real_state: A_log */
    size_t lambda_im;
    size_t B;
    size_t C[2];
    size_t D;
    size_t log_step;  /* real_state: log_dt, one for all */
    size_t weight[2]; /* of out1 and out2 */
    size_t bias[2];
} ssm__s5_offsets;

static void ssm__s5_table_dense(size_t H, const char *weight, const char *bias, const char *prefix, ssm_params *table,
                                size_t offsets[2])
{
    offsets[0] = ssm__param_matrix(table, prefix, weight, H, H, SSM__INIT_TRUNCATED, ssm__fan_in(H));
    offsets[1] = ssm__param_vector(table, prefix, bias, H, SSM__INIT_CONSTANT, 0);
}

static size_t ssm__s5_table_C(const ssm_s5_config *c, const char *name, const char *prefix, ssm_params *table)
{
    const size_t H = c->d_model, P = ssm__s5_states(c), N = c->d_state / c->blocks;
    size_t offset;
    if (c->real_state) return ssm__param_matrix(table, prefix, name, P, H, SSM__INIT_NORMAL, 1);
    offset = ssm__param(table, prefix, name, 3, H, P, 2, SSM__INIT_HIPPO_C, (ssm_real)N);
    ssm__param_args(table, (ssm_real)(P / c->blocks), 0);
    return offset;
}

static ssm__s5_offsets ssm__s5_table(const ssm_s5_config *c, const char *prefix, ssm_params *table)
{
    const size_t H = c->d_model, P = ssm__s5_states(c), absent = SSM__SIZE_MAX;
    const ssm_real N = (ssm_real)(c->d_state / c->blocks), keep = (ssm_real)(P / c->blocks);
    const ssm_real mean = SSM__K(-0.5);
    ssm__s5_offsets o;
    size_t dense[2];
    o.norm = o.lambda_im = o.C[1] = o.weight[0] = o.weight[1] = o.bias[0] = o.bias[1] = absent;
    if (c->pre_norm) o.norm = ssm__param_vector(table, prefix, "norm.weight", H, SSM__INIT_CONSTANT, 1);
    if (c->real_state) {
        o.lambda_re = ssm__param_vector(table, prefix, "A_log", P, SSM__INIT_A_INTEGER, 0);
        o.B = ssm__param_matrix(table, prefix, "B", H, P, SSM__INIT_NORMAL, 1);
    } else {
        o.lambda_re = ssm__param_vector(table, prefix, "Lambda_re", P, SSM__INIT_CONSTANT, mean);
        o.lambda_im = ssm__param_vector(table, prefix, "Lambda_im", P, SSM__INIT_HIPPO_IM, N);
        ssm__param_args(table, keep, 0);
        o.B = ssm__param(table, prefix, "B", 3, P, H, 2, SSM__INIT_HIPPO_B, N);
        ssm__param_args(table, keep, 0);
    }
    o.C[0] = ssm__s5_table_C(c, c->bidirectional ? "C1" : "C", prefix, table);
    if (c->bidirectional) o.C[1] = ssm__s5_table_C(c, "C2", prefix, table);
    o.D = ssm__param_vector(table, prefix, "D", H, SSM__INIT_NORMAL, 1);
    if (c->real_state) {
        o.log_step = ssm__param_vector(table, prefix, "log_dt", 1, SSM__INIT_NORMAL, 1);
    } else {
        o.log_step = ssm__param_vector(table, prefix, "log_step", P, SSM__INIT_LOG_UNIFORM, c->dt_min);
        ssm__param_args(table, c->dt_max, 0);
    }
    if (c->activation == SSM_S5_FULL_GLU) {
        ssm__s5_table_dense(H, "out1.weight", "out1.bias", prefix, table, dense);
        o.weight[0] = dense[0];
        o.bias[0] = dense[1];
    }
    if (ssm__s5_has_glu(c)) {
        ssm__s5_table_dense(H, "out2.weight", "out2.bias", prefix, table, dense);
        o.weight[1] = dense[0];
        o.bias[1] = dense[1];
    }
    return o;
}

SSM_API ssm_status ssm_s5_params(const ssm_s5_config *config, const char *prefix, ssm_params *table)
{
    ssm_s5_config c;
    ssm_params copy;
    ssm_status status = ssm_s5_config_resolve(config, &c);
    if (status != SSM_OK) return status;
    if (!table) return SSM_ERR_NULL;
    copy = *table;
    ssm__s5_table(&c, prefix, &copy);
    return ssm__params_commit(table, &copy);
}

/* --- real forms of B and C ---
 * Walks the entries of both: where each stands in the parameters, its place (row, column) in the real
 * matrix, and the factor between them. */
typedef struct ssm__s5_entry {
    size_t p;    /* state */
    size_t h;    /* channel */
    size_t part; /* 0 re, 1 im */
} ssm__s5_entry;

static int ssm__s5_entry_next(const ssm_s5_config *c, ssm__s5_entry *e)
{
    if (++e->part < ssm__s5_width(c)) return 1;
    e->part = 0;
    if (++e->h < c->d_model) return 1;
    e->h = 0;
    return ++e->p < ssm__s5_states(c);
}

static size_t ssm__s5_entry_B(const ssm_s5_config *c, const ssm__s5_entry *e)
{
    if (c->real_state) return e->h * c->d_state + e->p;
    return 2 * (e->p * c->d_model + e->h) + e->part;
}

static size_t ssm__s5_entry_C(const ssm_s5_config *c, const ssm__s5_entry *e)
{
    if (c->real_state) return e->p * c->d_model + e->h;
    return 2 * (e->h * ssm__s5_states(c) + e->p) + e->part;
}

/* k Re(C h) = k (C_re h_re - C_im h_im) */
static ssm_real ssm__s5_factor_C(const ssm_s5_config *c, const ssm__s5_entry *e)
{
    return (ssm_real)((c->no_conj_sym ? 1 : 2) * (e->part ? -1 : 1));
}

/* B [V][H] and C [H][dirs V] as real matrices, read from the parameters. */
typedef struct ssm__s5_source {
    const ssm_s5_config *config;
    const ssm__s5_offsets *offsets;
    const ssm_real *params;
} ssm__s5_source;

static ssm_real ssm__s5_at_B(const ssm__matrix *m, size_t row, size_t column)
{
    const ssm__s5_source *s = (const ssm__s5_source *)m->source;
    const size_t width = ssm__s5_width(s->config);
    ssm__s5_entry e;
    e.p = row / width;
    e.part = row % width;
    e.h = column;
    return s->params[s->offsets->B + ssm__s5_entry_B(s->config, &e)];
}

static ssm_real ssm__s5_at_C(const ssm__matrix *m, size_t row, size_t column)
{
    const ssm__s5_source *s = (const ssm__s5_source *)m->source;
    const size_t width = ssm__s5_width(s->config), V = ssm__s5_row(s->config);
    ssm__s5_entry e;
    e.p = column % V / width;
    e.part = column % width;
    e.h = row;
    return ssm__s5_factor_C(s->config, &e) * s->params[s->offsets->C[column / V] + ssm__s5_entry_C(s->config, &e)];
}

static ssm__matrix ssm__s5_matrix_B(const ssm__s5_source *source)
{
    ssm__matrix m;
    m.at = ssm__s5_at_B;
    m.source = source;
    m.columns = source->config->d_model;
    return m;
}

static ssm__matrix ssm__s5_matrix_C(const ssm__s5_source *source)
{
    ssm__matrix m;
    m.at = ssm__s5_at_C;
    m.source = source;
    m.columns = ssm__mul(ssm__s5_dirs(source->config), ssm__s5_row(source->config));
    return m;
}

static void ssm__matrix_expand(const ssm__matrix *m, size_t rows, ssm_real *dense)
{
    size_t r, c;
    for (r = 0; r < rows; ++r)
        for (c = 0; c < m->columns; ++c) dense[r * m->columns + c] = m->at(m, r, c);
}

/* Gradients of the plain real matrices -> of the parameters, added. */
static void ssm__s5_fold(const ssm_s5_config *c, const ssm__s5_offsets *o, const ssm_real *dB, const ssm_real *dC,
                         ssm_real *dparams)
{
    const size_t width = ssm__s5_width(c), V = ssm__s5_row(c), dirs = ssm__s5_dirs(c);
    ssm__s5_entry e = {0, 0, 0};
    size_t dir;
    do {
        const size_t row = e.p * width + e.part;
        dparams[o->B + ssm__s5_entry_B(c, &e)] += dB[row * c->d_model + e.h];
        for (dir = 0; dir < dirs; ++dir)
            dparams[o->C[dir] + ssm__s5_entry_C(c, &e)] += ssm__s5_factor_C(c, &e) * dC[e.h * dirs * V + dir * V + row];
    } while (ssm__s5_entry_next(c, &e));
}

/* --- coefficients --- */
/* Step sizes of state p in a row with factor `scale`. */
static ssm__s5_step ssm__s5_layer_step(const ssm_s5 *s, size_t p, ssm_real scale)
{
    ssm__s5_step e;
    e.A = ssm__c_load(s->lambda + 2 * p);
    e.da = s->step[p] * scale;
    e.db = s->config.event ? s->step[p] : e.da;
    return e;
}

/* a and b of all states in a row with factor `scale`. */
static void ssm__s5_coefs(const ssm_s5 *s, ssm_real scale, ssm_real *a, ssm_real *b)
{
    const size_t width = ssm__s5_width(&s->config), P = ssm__s5_states(&s->config);
    size_t p;
    for (p = 0; p < P; ++p) {
        const ssm__s5_step e = ssm__s5_layer_step(s, p, scale);
        const ssm__c_coef k = ssm__c_discretise(s->config.disc, e.A, e.da, e.db);
        a[p * width] = k.a.re;
        b[p * width] = k.b.re;
        if (width == 1) continue;
        a[p * 2 + 1] = k.a.im;
        b[p * 2 + 1] = k.b.im;
    }
}

/* Adds to the gradients of lambda [P][2] and step [P] from those of a and b. */
static void ssm__s5_coefs_backward(const ssm_s5 *s, ssm_real scale, const ssm_real *a, const ssm_real *b,
                                   const ssm_real *da, const ssm_real *db, ssm_real *dlambda, ssm_real *dstep)
{
    const size_t width = ssm__s5_width(&s->config), P = ssm__s5_states(&s->config);
    size_t p;
    for (p = 0; p < P; ++p) {
        const ssm__s5_step e = ssm__s5_layer_step(s, p, scale);
        ssm__c_coef_grad d;
        ssm__c_coef k, g;
        k.a = ssm__s5_load(a + p * width, width == 2);
        k.b = ssm__s5_load(b + p * width, width == 2);
        g.a = ssm__s5_load(da + p * width, width == 2);
        g.b = ssm__s5_load(db + p * width, width == 2);
        d = ssm__c_discretise_grad(s->config.disc, e.A, e.da, e.db, k, g);
        dlambda[2 * p] += d.A.re;
        dlambda[2 * p + 1] += d.A.im;
        dstep[p] += d.da * scale + (s->config.event ? d.db : d.db * scale);
    }
}

/* --- bind --- */
static void ssm__s5_bind_lambda(const ssm_s5_config *c, const ssm__s5_offsets *o, const ssm_real *params,
                                ssm_real *lambda, ssm_real *step)
{
    size_t p;
    for (p = 0; p < ssm__s5_states(c); ++p) {
        ssm__complex A = ssm__c(params[o->lambda_re + p], 0);
        if (c->real_state) A.re = -ssm__exp(A.re);
        else A.im = params[o->lambda_im + p];
        if (c->clip_eigs && A.re > SSM__K(-1e-4)) A.re = SSM__K(-1e-4);
        ssm__c_store(lambda + 2 * p, A);
        step[p] = c->step_rescale * ssm__exp(params[o->log_step + (c->real_state ? 0 : p)]);
    }
}

/* The walk through the layer's weights, from its resolved config. */
static void ssm__s5_bind(void *layer, ssm__binder *b)
{
    ssm_s5 *s = (ssm_s5 *)layer;
    const ssm_s5_config *c = &s->config;
    const size_t H = c->d_model, P = ssm__s5_states(c), V = ssm__s5_row(c);
    ssm_params table = ssm__own_table(NULL);
    const ssm__s5_offsets o = ssm__s5_table(c, NULL, &table);
    static const ssm_linear none = SSM__EMPTY;
    ssm_real *lambda, *step, *a, *bbar;
    ssm__s5_source source;
    ssm__matrix matrix;
    source.config = c;
    source.offsets = &o;
    source.params = s->params = b->params;
    s->out1 = s->out2 = none;
    matrix = ssm__s5_matrix_B(&source);
    ssm__bind_matrix(&s->B, b, &matrix, V, c->format);
    matrix = ssm__s5_matrix_C(&source);
    ssm__bind_matrix(&s->C, b, &matrix, H, c->format);
    s->lambda = ssm__bind_reals(b, ssm__mul(2, P), &lambda);
    s->step = ssm__bind_reals(b, P, &step);
    s->a = ssm__bind_reals(b, V, &a);
    s->b = ssm__bind_reals(b, V, &bbar);
    ssm__bind_option(b, (size_t)c->disc);
    ssm__bind_option(b, (size_t)c->activation);
    ssm__bind_option(b, c->event != 0);
    ssm__bind_option(b, c->residual != 0);
    ssm__bind_norm(&s->norm, b, o.norm, H, c->norm_eps);
    s->D = ssm__bind_copy(b, o.D, H);
    if (c->activation == SSM_S5_FULL_GLU) ssm__bind_linear(&s->out1, b, o.weight[0], o.bias[0], H, H, c->format);
    if (ssm__s5_has_glu(c)) ssm__bind_linear(&s->out2, b, o.weight[1], o.bias[1], H, H, c->format);
    if (!b->params) return;
    ssm__s5_bind_lambda(c, &o, b->params, lambda, step);
    ssm__s5_coefs(s, 1, a, bbar);
}

SSM_API ssm_status ssm_s5_bind(ssm_s5 *layer, const ssm_s5_config *config, const ssm_real *params, void *mem,
                               size_t mem_bytes)
{
    ssm_s5 bound;
    ssm_status status = ssm_s5_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer || !params) return SSM_ERR_NULL;
    status = ssm__bind(ssm__s5_bind, &bound, params, mem, mem_bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

SSM_API ssm_status ssm_s5_attach(ssm_s5 *layer, const ssm_s5_config *config, const void *data, size_t bytes)
{
    ssm_s5 bound;
    ssm_status status = ssm_s5_config_resolve(config, &bound.config);
    if (status != SSM_OK) return status;
    if (!layer) return SSM_ERR_NULL;
    status = ssm__attach(ssm__s5_bind, &bound, data, bytes, &bound.bound);
    if (status == SSM_OK) *layer = bound;
    return status;
}

/* --- sizes --- */
static size_t ssm__s5_state_count(const ssm_s5_config *c)
{
    return c->bidirectional ? 0 : ssm__s5_row(c);
}

typedef struct ssm__s5_mem { /* one tile of the forward */
    ssm_real *u;             /* [rows][H] normalised input; NULL without norm */
    ssm_real *v;             /* [rows][V] B u; forward: its h takes the same place */
    ssm_real *h;             /* [rows][dirs][V] states */
    ssm_real *s;             /* [rows][H] k Re(C h) + D u */
    ssm_real *g;             /* [rows][H] gelu(s) */
    ssm_real *out1;          /* [rows][H] out1 g */
    ssm_real *out2;          /* [rows][H] out2 g */
    ssm_real *coef;          /* [2][V] a and b of one row, for step_scale */
    ssm_real *zero;          /* [V] */
    ptrdiff_t v_row;
    ssm_real *a; /* [rows][V] a of every row, for a time-parallel scan with step_scale */
    void *scan;  /* its workspace */
} ssm__s5_mem;

/* The recurrence of at most `rows` steps as a linear scan, all but its tensors. */
static ssm_linear_scan ssm__s5_line(const ssm_s5_config *c, size_t rows)
{
    static const ssm_linear_scan none = SSM__EMPTY;
    ssm_linear_scan line = none;
    line.batch = 1;
    line.len = rows;
    line.dim = ssm__s5_states(c);
    line.complex_values = ssm__s5_width(c) == 2;
    line.scan = c->scan;
    return line;
}

/* Workspace of a time-parallel scan; a shorter one needs no more. */
static void *ssm__s5_scan_take(const ssm_s5_config *c, ssm__arena *arena, size_t rows)
{
    const ssm_linear_scan line = ssm__s5_line(c, rows);
    ssm__line_job job;
    if (!ssm__scan_needs_whole(c->scan)) return NULL;
    return ssm__take(arena, ssm__ceil_div(ssm__line_layout(&line, NULL, &job), sizeof(ssm_real)));
}

/* What a step needs, and the start of every other layout; h is not set. */
static void ssm__s5_step_take(const ssm_s5 *s, ssm__arena *arena, size_t rows, ssm__s5_mem *m)
{
    const ssm_s5_config *c = &s->config;
    const size_t V = ssm__s5_row(c), out = ssm__mul(rows, c->d_model);
    m->u = c->pre_norm ? ssm__take(arena, out) : NULL;
    m->v = ssm__take(arena, ssm__mul(rows, V));
    m->v_row = (ptrdiff_t)V;
    m->s = ssm__take(arena, out);
    m->g = c->activation != SSM_S5_NONE ? ssm__take(arena, out) : NULL;
    m->out1 = c->activation == SSM_S5_FULL_GLU ? ssm__take(arena, out) : NULL;
    m->out2 = ssm__s5_has_glu(c) ? ssm__take(arena, out) : NULL;
}

/* keep_v: v has a place of its own. */
static void ssm__s5_take(const ssm_s5 *s, ssm__arena *arena, size_t rows, int keep_v, ssm__s5_mem *m)
{
    const ssm_s5_config *c = &s->config;
    const size_t V = ssm__s5_row(c), dirs = ssm__s5_dirs(c);
    ssm__s5_step_take(s, arena, rows, m);
    m->h = m->v;
    if (keep_v || dirs > 1) m->h = ssm__take(arena, ssm__mul(rows, ssm__mul(dirs, V)));
    m->coef = ssm__take(arena, ssm__mul(2, V));
    m->zero = c->bidirectional ? ssm__take(arena, V) : NULL;
    m->a = ssm__scan_needs_whole(c->scan) ? ssm__take(arena, ssm__mul(rows, V)) : NULL;
    m->scan = ssm__s5_scan_take(c, arena, rows);
}

typedef struct ssm__s5_scratch { /* of the backward */
    ssm__s5_mem mem;
    ssm_real *du;      /* [rows][H], with norm */
    ssm_real *ds;      /* [rows][H] */
    ssm_real *dg;      /* [rows][H] */
    ssm_real *dout1;   /* [rows][H] */
    ssm_real *dout2;   /* [rows][H] */
    ssm_real *dh;      /* [rows][dirs][V] */
    ssm_real *dv;      /* [rows][V] */
    ssm_real *carry;   /* [V] conj(a) g of the row after */
    ssm_real *da;      /* [2][V] gradients of a and b */
    ssm_real *dlambda; /* [P][2] */
    ssm_real *dstep;   /* [P] */
    ssm_real *B;       /* plain real form, and its gradient */
    ssm_real *C;
    ssm_real *dB;
    ssm_real *dC;
} ssm__s5_scratch;

static void ssm__s5_take_scratch(const ssm_s5 *s, ssm__arena *arena, size_t rows, ssm__s5_scratch *w)
{
    const ssm_s5_config *c = &s->config;
    const size_t V = ssm__s5_row(c), states = ssm__mul(ssm__s5_dirs(c), V), out = ssm__mul(rows, c->d_model);
    const int glu = ssm__s5_has_glu(c);
    ssm__s5_take(s, arena, rows, 1, &w->mem);
    w->du = c->pre_norm ? ssm__take(arena, out) : NULL;
    w->ds = ssm__take(arena, out);
    w->dg = c->activation != SSM_S5_NONE ? ssm__take(arena, out) : NULL;
    w->dout1 = c->activation == SSM_S5_FULL_GLU ? ssm__take(arena, out) : NULL;
    w->dout2 = glu ? ssm__take(arena, out) : NULL;
    w->dh = ssm__take(arena, ssm__mul(rows, states));
    w->dv = ssm__take(arena, ssm__mul(rows, V));
    w->carry = ssm__take(arena, V);
    w->da = ssm__take(arena, ssm__mul(2, V));
    w->dlambda = ssm__take(arena, ssm__mul(2, ssm__s5_states(c)));
    w->dstep = ssm__take(arena, ssm__s5_states(c));
    w->B = ssm__take(arena, ssm__mul(V, c->d_model));
    w->C = ssm__take(arena, ssm__mul(states, c->d_model));
    w->dB = ssm__take(arena, ssm__mul(V, c->d_model));
    w->dC = ssm__take(arena, ssm__mul(states, c->d_model));
}

static size_t ssm__s5_work(const void *layer, size_t rows, size_t streams)
{
    ssm__arena arena = ssm__arena_open(NULL);
    ssm__s5_mem mem;
    (void)streams;
    ssm__s5_take((const ssm_s5 *)layer, &arena, rows, 0, &mem);
    return ssm__arena_bytes(&arena);
}

static size_t ssm__s5_step_work(const void *layer, size_t rows, size_t streams)
{
    ssm__arena arena = ssm__arena_open(NULL);
    ssm__s5_mem mem;
    (void)streams;
    ssm__s5_step_take((const ssm_s5 *)layer, &arena, rows, &mem);
    return ssm__arena_bytes(&arena);
}

static size_t ssm__s5_work_backward(const void *layer, size_t rows, size_t streams)
{
    ssm__arena arena = ssm__arena_open(NULL);
    ssm__s5_scratch scratch;
    (void)streams;
    ssm__s5_take_scratch((const ssm_s5 *)layer, &arena, rows, &scratch);
    return ssm__arena_bytes(&arena);
}

static ssm_real *ssm__s5_tape_layout(const ssm_s5 *s, size_t slots, void *mem, size_t *bytes)
{
    ssm__arena arena = ssm__arena_open(mem);
    ssm_real *states = ssm__take(&arena, ssm__mul(slots, ssm__s5_state_count(&s->config)));
    *bytes = ssm__arena_bytes(&arena);
    return states;
}

static size_t ssm__s5_tape(const void *layer, size_t rows, size_t slots)
{
    size_t bytes;
    (void)rows;
    ssm__s5_tape_layout((const ssm_s5 *)layer, slots, NULL, &bytes);
    return bytes;
}

static void ssm__s5_tile(const ssm__call *call);
static void ssm__s5_step_tile(const ssm__call *call);
static void ssm__s5_tile_backward(const ssm__call *call);

static const ssm__verb ssm__s5_verb_step = {ssm__s5_step_tile, ssm__s5_step_work, NULL};
static const ssm__verb ssm__s5_verb_forward = {ssm__s5_tile, ssm__s5_work, NULL};
static const ssm__verb ssm__s5_verb_record = {ssm__s5_tile, ssm__s5_work, ssm__s5_tape};
static const ssm__verb ssm__s5_verb_backward = {ssm__s5_tile_backward, ssm__s5_work_backward, ssm__s5_tape};

static ssm__call ssm__s5_call(const ssm_s5 *layer)
{
    ssm__call call =
        ssm__call_of(layer, layer ? layer->config.d_model : 0, layer ? ssm__s5_state_count(&layer->config) : 0);
    call.whole = layer && (layer->config.bidirectional || ssm__scan_needs_whole(layer->config.scan));
    call.has_params = layer && layer->params;
    return call;
}

SSM_API ssm_status ssm_s5_sizes(const ssm_s5_config *config, const ssm_seqs *seqs, ssm_sizes *need)
{
    ssm__memory memory = {ssm__s5_work, ssm__s5_step_work, ssm__s5_work_backward, ssm__s5_tape};
    ssm_params table = ssm__own_table(NULL);
    ssm_s5 s;
    size_t bound;
    ssm_status status = ssm_s5_config_resolve(config, &s.config);
    if (status != SSM_OK) return status;
    bound = ssm__bound_bytes(ssm__s5_bind, &s);
    ssm__s5_table(&s.config, NULL, &table);
    if (s.config.bidirectional) memory.work_step = NULL;
    return ssm__layer_sizes(&memory, ssm__s5_call(&s), table.count, bound, seqs, need);
}

/* --- init --- */
SSM_API ssm_status ssm_s5_init(const ssm_s5_config *config, ssm_real *params, uint64_t seed)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = ssm__own_table(rows);
    ssm_status status = ssm_s5_params(config, NULL, &table);
    return status == SSM_OK ? ssm_params_init(&table, params, seed) : status;
}

/* --- forward, step --- */
/* h = b v for P states of one step, each of `width` reals. h may be v. */
static void ssm__s5_lanes(size_t width, size_t P, const ssm_real *b, const ssm_real *v, ssm_real *h)
{
    size_t p;
    for (p = 0; p < P; ++p, b += width, v += width, h += width) {
        if (width == 1) *h = *b * *v;
        else ssm__c_store(h, ssm__c_mul(ssm__c_load(b), ssm__c_load(v)));
    }
}

/* h = a before + b v. h may be v. */
static void ssm__s5_advance_row(size_t width, size_t P, const ssm_real *a, const ssm_real *b, const ssm_real *v,
                                const ssm_real *before, ssm_real *h)
{
    size_t p;
    ssm__s5_lanes(width, P, b, v, h);
    for (p = 0; p < P; ++p, a += width, before += width, h += width) {
        if (width == 1) *h = *a * *before + *h;
        else ssm__c_store(h, ssm__c_add(ssm__c_mul(ssm__c_load(a), ssm__c_load(before)), ssm__c_load(h)));
    }
}

/* One sequence of a tile in one direction, as the kernels walk it. */
typedef struct ssm__s5_track {
    size_t first;   /* row of the tile where the direction starts */
    ptrdiff_t next; /* from a row to the one after it in this direction: 1 or -1 */
    size_t steps;
    size_t column;         /* of its states in h */
    const ssm_real *enter; /* [V] state before the first */
    const ssm_real *scale; /* step_scale of the tile's first row, or NULL */
} ssm__s5_track;

static ssm__s5_track ssm__s5_track_of(const ssm_s5 *s, const ssm__call *call, const ssm__s5_mem *m, size_t stream,
                                      size_t dir, const ssm_real *states)
{
    const ssm__tile *t = &call->tile;
    ssm__s5_track k;
    k.first = stream * t->steps + (dir ? t->steps - 1 : 0);
    k.next = dir ? -1 : 1;
    k.steps = t->steps;
    k.column = dir * ssm__s5_row(&s->config);
    k.enter = m->zero ? m->zero : states + stream * call->state_count;
    k.scale = call->step_scale ? call->step_scale + t->row : NULL;
    return k;
}

static size_t ssm__s5_track_row(const ssm__s5_track *k, size_t i)
{
    return (size_t)((ptrdiff_t)k->first + ssm__step(i, k->next));
}

/* States after step i of the track; before step 0: those that enter. */
static const ssm_real *ssm__s5_track_before(const ssm_s5 *s, const ssm__s5_mem *m, const ssm__s5_track *k, size_t i)
{
    return i ? m->h + ssm__s5_track_row(k, i - 1) * s->C.in + k->column : k->enter;
}

/* a and b of a row: those of bind, or with step_scale its own. */
static const ssm_real *ssm__s5_track_coefs(const ssm_s5 *s, const ssm__s5_mem *m, const ssm__s5_track *k, size_t row,
                                           const ssm_real **b)
{
    ssm_real *own = m->coef + s->B.out;
    *b = k->scale ? own : s->b;
    if (!k->scale) return s->a;
    ssm__s5_coefs(s, k->scale[row], m->coef, own);
    return m->coef;
}

/* Chunked or in a tree: h = b v first, then the linear scan in place. */
static void ssm__s5_run_scan(const ssm_s5 *s, const ssm_parallel *parallel, const ssm__s5_mem *m,
                             const ssm__s5_track *k)
{
    const size_t width = ssm__s5_width(&s->config), P = ssm__s5_states(&s->config), V = P * width;
    const size_t first = k->next < 0 ? k->first + 1 - k->steps : k->first; /* in memory */
    ssm_linear_scan line = ssm__s5_line(&s->config, k->steps);
    size_t i;
    for (i = 0; i < k->steps; ++i) {
        const size_t row = first + i;
        const ssm_real *b, *a = ssm__s5_track_coefs(s, m, k, row, &b);
        ssm__s5_lanes(width, P, b, m->v + ssm__step(row, m->v_row), m->h + row * s->C.in + k->column);
        if (k->scale) ssm__copy(m->a + row * V, a, V);
    }
    line.reverse = k->next < 0;
    line.parallel = parallel;
    line.a = k->scale ? ssm__view(m->a + first * V, 0, V, width, 0) : ssm__view(s->a, 0, 0, width, 0);
    line.b = ssm__view(m->h + first * s->C.in + k->column, 0, s->C.in, width, 0);
    line.h = ssm_out_like(m->h + first * s->C.in + k->column, line.b);
    line.h0 = ssm__view(k->enter, 0, 0, width, 0);
    ssm__linear_scan(&line, m->scan);
}

static void ssm__s5_run(const ssm_s5 *s, const ssm_parallel *parallel, const ssm__s5_mem *m, const ssm__s5_track *k)
{
    const size_t width = ssm__s5_width(&s->config), P = ssm__s5_states(&s->config);
    size_t i;
    if (ssm__scan_needs_whole(s->config.scan)) {
        ssm__s5_run_scan(s, parallel, m, k);
        return;
    }
    for (i = 0; i < k->steps; ++i) {
        const size_t row = ssm__s5_track_row(k, i);
        const ssm_real *b, *a = ssm__s5_track_coefs(s, m, k, row, &b);
        ssm__s5_advance_row(width, P, a, b, m->v + ssm__step(row, m->v_row), ssm__s5_track_before(s, m, k, i),
                            m->h + row * s->C.in + k->column);
    }
}

/* From s to what activation multiplies by the sigmoid, or passes on. */
static const ssm_real *ssm__s5_activate(const ssm_s5 *s, const ssm_parallel *parallel, const ssm__s5_mem *m,
                                        size_t rows)
{
    const size_t H = s->config.d_model;
    const ptrdiff_t row = (ptrdiff_t)H;
    size_t i;
    if (m->g)
        for (i = 0; i < rows * H; ++i) m->g[i] = ssm__gelu_tanh(m->s[i]);
    if (m->out1) ssm__linear(parallel, &s->out1, m->g, row, NULL, 0, m->out1, row, rows);
    if (m->out2) ssm__linear(parallel, &s->out2, m->g, row, NULL, 0, m->out2, row, rows);
    if (s->config.activation == SSM_S5_FULL_GLU) return m->out1;
    if (s->config.activation == SSM_S5_HALF_GLU2 || s->config.activation == SSM_S5_NONE) return m->s;
    return m->g;
}

/* u, and v = B u. */
static const ssm_real *ssm__s5_input(const ssm_s5 *s, const ssm__call *call, const ssm__s5_mem *m, size_t rows,
                                     ptrdiff_t *u_row)
{
    const ptrdiff_t H_row = (ptrdiff_t)s->config.d_model;
    const ssm_real *u = m->u ? m->u : call->x;
    *u_row = m->u ? H_row : call->x_row;
    if (m->u) ssm__norm(&s->norm, call->x, call->x_row, m->u, H_row, rows);
    ssm__linear(call->parallel, &s->B, u, *u_row, NULL, 0, m->v, m->v_row, rows);
    return u;
}

/* s = k Re(C h) + D u and its activation. Returns as ssm__s5_activate. */
static const ssm_real *ssm__s5_output(const ssm_s5 *s, const ssm_parallel *parallel, const ssm__s5_mem *m,
                                      const ssm_real *u, ptrdiff_t u_row, const ssm_real *h, size_t rows)
{
    const size_t H = s->config.d_model;
    const ptrdiff_t H_row = (ptrdiff_t)H;
    size_t r, c;
    for (r = 0; r < rows; ++r)
        for (c = 0; c < H; ++c) m->s[r * H + c] = s->D[c] * u[ssm__step(r, u_row) + (ptrdiff_t)c];
    ssm__linear(parallel, &s->C, h, (ptrdiff_t)s->C.in, m->s, H_row, m->s, H_row, rows);
    return ssm__s5_activate(s, parallel, m, rows);
}

/* Gate and residual: the output. */
static void ssm__s5_finish(const ssm_s5 *s, const ssm__call *call, const ssm__s5_mem *m, const ssm_real *factor,
                           size_t rows)
{
    const size_t H = s->config.d_model;
    size_t r, c;
    for (r = 0; r < rows; ++r) {
        const ssm_real *x = call->x + ssm__step(r, call->x_row);
        ssm_real *y = call->y + ssm__step(r, call->y_row);
        for (c = 0; c < H; ++c) {
            ssm_real value = factor[r * H + c];
            if (m->out2) value *= ssm__sigmoid(m->out2[r * H + c]);
            y[c] = s->config.residual ? x[c] + value : value;
        }
    }
}

/* One tile up to the activation, from the states that enter it. Returns as ssm__s5_activate. */
static const ssm_real *ssm__s5_evaluate(const ssm_s5 *s, const ssm__call *call, const ssm__s5_mem *m,
                                        const ssm_real *states)
{
    const ssm__tile *t = &call->tile;
    const size_t rows = t->count * t->steps;
    ptrdiff_t u_row;
    const ssm_real *u = ssm__s5_input(s, call, m, rows, &u_row);
    size_t stream, dir;
    if (m->zero) ssm__zero(m->zero, s->B.out);
    for (stream = 0; stream < t->count; ++stream) {
        for (dir = ssm__s5_dirs(&s->config); dir-- > 0;) { /* forward last: it may write over v */
            const ssm__s5_track k = ssm__s5_track_of(s, call, m, stream, dir, states);
            ssm__s5_run(s, call->parallel, m, &k);
        }
    }
    return ssm__s5_output(s, call->parallel, m, u, u_row, m->h, rows);
}

static void ssm__s5_tile(const ssm__call *call)
{
    const ssm_s5 *s = (const ssm_s5 *)call->layer;
    const ssm__tile *t = &call->tile;
    const size_t rows = t->count * t->steps, states = call->state_count;
    ssm__arena arena = ssm__arena_open(call->work);
    const ssm_real *factor;
    ssm__s5_mem m;
    size_t r, bytes;
    if (call->tape && states)
        ssm__copy(ssm__s5_tape_layout(s, call->tape_slots, call->tape, &bytes) + t->slot * states, call->state,
                  t->count * states);
    ssm__s5_take(s, &arena, rows, 0, &m);
    factor = ssm__s5_evaluate(s, call, &m, call->state);
    for (r = 0; states && r < t->count; ++r) /* the states after the last step of each stream */
        ssm__copy(call->state + r * states, m.h + ((r + 1) * t->steps - 1) * states, states);
    ssm__s5_finish(s, call, &m, factor, rows);
}

/* One step of each stream. */
static void ssm__s5_step_tile(const ssm__call *call)
{
    const ssm_s5 *s = (const ssm_s5 *)call->layer;
    const size_t rows = call->tile.count, V = s->B.out;
    ssm__arena arena = ssm__arena_open(call->work);
    const ssm_real *u;
    ptrdiff_t u_row;
    ssm__s5_mem m;
    size_t r;
    ssm__s5_step_take(s, &arena, rows, &m);
    u = ssm__s5_input(s, call, &m, rows, &u_row);
    for (r = 0; r < rows; ++r) {
        ssm_real *v = m.v + r * V, *h = call->state + r * V; /* the new state takes the place of v first */
        ssm__s5_advance_row(ssm__s5_width(&s->config), ssm__s5_states(&s->config), s->a, s->b, v, h, v);
        ssm__copy(h, v, V);
    }
    ssm__s5_finish(s, call, &m, ssm__s5_output(s, NULL, &m, u, u_row, m.v, rows), rows);
}

/* A bidirectional layer has no state to take. */
static int ssm__s5_refuses(const ssm_s5 *layer, const ssm_real *state)
{
    return layer && layer->config.bidirectional && state;
}

SSM_API ssm_status ssm_s5_forward(const ssm_s5 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                  const ssm_seqs *seqs, void *work, size_t work_bytes)
{
    if (ssm__s5_refuses(layer, state)) return SSM_ERR_UNSUPPORTED;
    return ssm__layer_forward(&ssm__s5_verb_forward, ssm__s5_call(layer), state, x, y, seqs, work, work_bytes);
}

SSM_API ssm_status ssm_s5_step(const ssm_s5 *layer, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                               void *work, size_t work_bytes)
{
    if (layer && layer->config.bidirectional) return SSM_ERR_UNSUPPORTED;
    return ssm__layer_step(&ssm__s5_verb_step, ssm__s5_call(layer), state, x, y, streams, work, work_bytes);
}

/* --- backward --- */
/* The adjoint of ssm__s5_advance_row. carry inout: gradient of h from the step after -> of `before`.
 * Adds to dv, da and db. */
static void ssm__s5_lanes_backward(size_t width, size_t P, const ssm_real *a, const ssm_real *b, const ssm_real *v,
                                   const ssm_real *before, const ssm_real *dh, ssm_real *carry, ssm_real *dv,
                                   ssm_real *da, ssm_real *db)
{
    const int pair = width == 2;
    size_t p;
    for (p = 0; p < P * width; p += width) {
        const ssm__complex g = ssm__c_add(ssm__s5_load(carry + p, pair), ssm__s5_load(dh + p, pair));
        const ssm__c_factors ah = ssm__c_mul_adjoint(ssm__s5_load(a + p, pair), ssm__s5_load(before + p, pair), g);
        const ssm__c_factors bv = ssm__c_mul_adjoint(ssm__s5_load(b + p, pair), ssm__s5_load(v + p, pair), g);
        ssm__s5_add(da + p, pair, ah.w);
        ssm__s5_add(db + p, pair, bv.w);
        ssm__s5_add(dv + p, pair, bv.v);
        carry[p] = ah.v.re;
        if (pair) carry[p + 1] = ah.v.im;
    }
}

/* The adjoint of ssm__s5_run; w->carry holds the gradient of the state after its last step. */
static void ssm__s5_run_backward(const ssm_s5 *s, const ssm__s5_scratch *w, const ssm__s5_track *k)
{
    const ssm__s5_mem *m = &w->mem;
    const size_t V = s->B.out, width = ssm__s5_width(&s->config), P = ssm__s5_states(&s->config);
    size_t i;
    for (i = k->steps; i-- > 0;) {
        const size_t row = ssm__s5_track_row(k, i);
        const ssm_real *b, *a = ssm__s5_track_coefs(s, m, k, row, &b);
        if (k->scale) ssm__zero(w->da, 2 * V);
        ssm__s5_lanes_backward(width, P, a, b, m->v + ssm__step(row, m->v_row), ssm__s5_track_before(s, m, k, i),
                               w->dh + row * s->C.in + k->column, w->carry, w->dv + row * V, w->da, w->da + V);
        if (k->scale) ssm__s5_coefs_backward(s, k->scale[row], a, b, w->da, w->da + V, w->dlambda, w->dstep);
    }
}

/* dy -> ds, and the gradients of the GLU's weights. */
static void ssm__s5_activate_backward(const ssm_s5 *s, const ssm__call *call, const ssm__s5_offsets *o,
                                      const ssm__s5_scratch *w, const ssm_real *factor, size_t rows)
{
    const size_t H = s->config.d_model;
    const ptrdiff_t row = (ptrdiff_t)H;
    const ssm__s5_mem *m = &w->mem;
    ssm_real *dfactor = factor == m->s ? w->ds : factor == m->g ? w->dg : w->dout1;
    size_t r, c, i;
    ssm__zero(w->ds, rows * H);
    if (w->dg) ssm__zero(w->dg, rows * H);
    for (r = 0; r < rows; ++r) {
        for (c = 0; c < H; ++c) {
            const ssm_real dy = call->dy[ssm__step(r, call->dy_row) + (ptrdiff_t)c];
            const ssm_real gate = m->out2 ? ssm__sigmoid(m->out2[r * H + c]) : 1;
            dfactor[r * H + c] = dy * gate;
            if (w->dout2) w->dout2[r * H + c] = dy * factor[r * H + c] * gate * (1 - gate);
        }
    }
    if (w->dout1)
        ssm__linear_backward(call->parallel, &s->out1, m->g, row, w->dout1, row, w->dg, row,
                             ssm__grad_at(call->dparams, o->weight[0]), ssm__grad_at(call->dparams, o->bias[0]), rows);
    if (w->dout2)
        ssm__linear_backward(call->parallel, &s->out2, m->g, row, w->dout2, row, w->dg, row,
                             ssm__grad_at(call->dparams, o->weight[1]), ssm__grad_at(call->dparams, o->bias[1]), rows);
    for (i = 0; w->dg && i < rows * H; ++i) w->ds[i] += w->dg[i] * ssm__gelu_tanh_derivative(m->s[i]);
}

/* Gradients of Lambda and log_step of this tile -> of the parameters. */
static void ssm__s5_lambda_backward(const ssm_s5 *s, const ssm__s5_offsets *o, const ssm__s5_scratch *w,
                                    ssm_real *dparams)
{
    const ssm_s5_config *c = &s->config;
    size_t p;
    for (p = 0; p < ssm__s5_states(c); ++p) {
        const ssm_real re = s->lambda[2 * p];
        const int clipped = c->clip_eigs && !(re < SSM__K(-1e-4));
        if (!clipped) dparams[o->lambda_re + p] += w->dlambda[2 * p] * (c->real_state ? re : 1); /* -exp(A_log) */
        if (!c->real_state) dparams[o->lambda_im + p] += w->dlambda[2 * p + 1];
        dparams[o->log_step + (c->real_state ? 0 : p)] += w->dstep[p] * s->step[p];
    }
}

/* All directions of all streams: dh -> dv, dlambda, dstep, and the gradient of the entering states. */
static void ssm__s5_states_backward(const ssm_s5 *s, const ssm__call *call, const ssm__s5_scratch *w,
                                    const ssm_real *states)
{
    const ssm__tile *t = &call->tile;
    const size_t V = s->B.out, P = ssm__s5_states(&s->config);
    size_t stream, dir;
    ssm__zero(w->dv, t->count * t->steps * V);
    ssm__zero(w->da, 2 * V);
    ssm__zero(w->dlambda, 2 * P);
    ssm__zero(w->dstep, P);
    for (stream = 0; stream < t->count; ++stream) {
        ssm_real *dstate = call->state_count ? call->state + stream * V : NULL;
        for (dir = 0; dir < ssm__s5_dirs(&s->config); ++dir) {
            const ssm__s5_track k = ssm__s5_track_of(s, call, &w->mem, stream, dir, states);
            if (dstate) ssm__copy(w->carry, dstate, V);
            else ssm__zero(w->carry, V);
            ssm__s5_run_backward(s, w, &k);
            if (dstate) ssm__copy(dstate, w->carry, V);
        }
    }
    if (!call->step_scale) ssm__s5_coefs_backward(s, 1, s->a, s->b, w->da, w->da + V, w->dlambda, w->dstep);
}

/* From ds to du, with the gradients of all that lies between. */
static void ssm__s5_ssm_backward(const ssm_s5 *s, const ssm__call *call, const ssm__s5_offsets *o,
                                 const ssm__s5_scratch *w, const ssm_real *states)
{
    const ssm_s5_config *c = &s->config;
    const size_t H = c->d_model, V = s->B.out, rows = call->tile.count * call->tile.steps;
    const ptrdiff_t H_row = (ptrdiff_t)H, V_row = (ptrdiff_t)V, h_row = (ptrdiff_t)s->C.in;
    const ssm_real *u = w->mem.u ? w->mem.u : call->x;
    const ptrdiff_t u_row = w->mem.u ? H_row : call->x_row, du_row = w->du ? H_row : call->dx_row;
    ssm_real *du = w->du ? w->du : call->dx, *dD = ssm__grad_at(call->dparams, o->D);
    ssm_linear B = s->B, C = s->C;
    ssm__s5_source source;
    ssm__matrix matrix;
    size_t r, i;
    source.config = c;
    source.offsets = o;
    source.params = s->params;
    matrix = ssm__s5_matrix_B(&source);
    ssm__matrix_expand(&matrix, V, w->B);
    matrix = ssm__s5_matrix_C(&source);
    ssm__matrix_expand(&matrix, H, w->C);
    B.weight = w->B;
    C.weight = w->C;
    ssm__zero(w->dB, V * H);
    ssm__zero(w->dC, H * s->C.in);
    ssm__zero(w->dh, rows * s->C.in);
    for (r = 0; r < rows; ++r) {
        for (i = 0; i < H; ++i) {
            const ssm_real ds = w->ds[r * H + i];
            if (dD) dD[i] += ds * u[ssm__step(r, u_row) + (ptrdiff_t)i];
            if (du) du[ssm__step(r, du_row) + (ptrdiff_t)i] += ds * s->D[i];
        }
    }
    ssm__linear_backward(call->parallel, &C, w->mem.h, h_row, w->ds, H_row, w->dh, h_row, w->dC, NULL, rows);
    ssm__s5_states_backward(s, call, w, states);
    ssm__linear_backward(call->parallel, &B, u, u_row, w->dv, V_row, du, du_row, w->dB, NULL, rows);
    if (!call->dparams) return;
    ssm__s5_fold(c, o, w->dB, w->dC, call->dparams);
    ssm__s5_lambda_backward(s, o, w, call->dparams);
}

static void ssm__s5_tile_backward(const ssm__call *call)
{
    const ssm_s5 *s = (const ssm_s5 *)call->layer;
    const ssm_s5_config *c = &s->config;
    const ssm__tile *t = &call->tile;
    const size_t H = c->d_model, rows = t->count * t->steps;
    const ptrdiff_t H_row = (ptrdiff_t)H;
    ssm__arena arena = ssm__arena_open(call->work);
    ssm_params table = ssm__own_table(NULL);
    const ssm__s5_offsets o = ssm__s5_table(c, NULL, &table);
    const ssm_real *states = NULL, *factor;
    ssm__s5_scratch w;
    size_t r, i, bytes;
    ssm__s5_take_scratch(s, &arena, rows, &w);
    if (call->state_count)
        states = ssm__s5_tape_layout(s, call->tape_slots, call->tape, &bytes) + t->slot * call->state_count;
    factor = ssm__s5_evaluate(s, call, &w.mem, states);
    if (w.du) ssm__zero(w.du, rows * H);
    ssm__s5_activate_backward(s, call, &o, &w, factor, rows);
    ssm__s5_ssm_backward(s, call, &o, &w, states);
    if (c->pre_norm)
        ssm__norm_backward(&s->norm, call->x, call->x_row, w.du, H_row, call->dx, call->dx_row,
                           ssm__grad_at(call->dparams, o.norm), rows);
    for (r = 0; call->dx && c->residual && r < rows; ++r)
        for (i = 0; i < H; ++i)
            call->dx[ssm__step(r, call->dx_row) + (ptrdiff_t)i] += call->dy[ssm__step(r, call->dy_row) + (ptrdiff_t)i];
}

SSM_API ssm_status ssm_s5_record(const ssm_s5 *layer, ssm_real *state, const ssm_real *x, ssm_real *y,
                                 const ssm_seqs *seqs, void *tape, size_t tape_bytes, void *work, size_t work_bytes)
{
    if (ssm__s5_refuses(layer, state)) return SSM_ERR_UNSUPPORTED;
    return ssm__layer_record(&ssm__s5_verb_record, ssm__s5_call(layer), state, x, y, seqs, tape, tape_bytes, work,
                             work_bytes);
}

SSM_API ssm_status ssm_s5_backward(const ssm_s5 *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy,
                                   ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, const void *tape,
                                   size_t tape_bytes, void *work, size_t work_bytes)
{
    if (ssm__s5_refuses(layer, dstate)) return SSM_ERR_UNSUPPORTED;
    return ssm__layer_backward(&ssm__s5_verb_backward, ssm__s5_call(layer), dstate, x, dy, dx, dparams, seqs, tape,
                               tape_bytes, work, work_bytes);
}

/*=============================================================================
 * >>optimiser
 *===========================================================================*/
/* base^n by squaring. */
static ssm_real ssm__power(ssm_real base, size_t n)
{
    ssm_real p = 1;
    for (; n; n >>= 1, base *= base)
        if (n & 1) p *= base;
    return p;
}

static ssm_status ssm__adamw_resolve(const ssm_adamw *adamw, ssm_adamw *a)
{
    *a = *adamw;
    if (a->beta1 == 0) a->beta1 = SSM__K(0.9);
    if (a->beta2 == 0) a->beta2 = SSM__K(0.999);
    if (a->eps == 0) a->eps = SSM__K(1e-8);
    if (!(a->lr >= 0) || !(a->beta1 > 0 && a->beta1 < 1) || !(a->beta2 > 0 && a->beta2 < 1) || !(a->eps > 0) ||
        !(a->weight_decay >= 0) || !(a->clip_norm >= 0))
        return SSM_ERR_CONFIG;
    return SSM_OK;
}

/* Euclidean norm, without overflow: everything is divided by the largest first. */
static ssm_real ssm__length(const ssm_real *x, size_t n)
{
    ssm_real largest = 0, sum = 0;
    size_t i;
    for (i = 0; i < n; ++i) {
        const ssm_real size = x[i] < 0 ? -x[i] : x[i];
        if (size != size) return size; /* NaN */
        if (size > largest) largest = size;
    }
    for (i = 0; largest > 0 && i < n; ++i) sum += (x[i] / largest) * (x[i] / largest);
    return largest * ssm__sqrt(sum);
}

SSM_API ssm_status ssm_adamw_step(const ssm_adamw *adamw, const ssm_params *table, ssm_real *params,
                                  const ssm_real *grads, ssm_real *moments, size_t step, ssm_real *grad_norm)
{
    ssm_real norm, scale = 1, correct1, correct2, *m = moments, *v;
    ssm_adamw a;
    ssm_status status;
    size_t r, i;
    if (!adamw || !table || !table->row || !params || !grads || !moments) return SSM_ERR_NULL;
    status = ssm__adamw_resolve(adamw, &a);
    if (status != SSM_OK) return status;
    if (step == 0) return SSM_ERR_CONFIG;
    v = moments + table->count;
    norm = ssm__length(grads, table->count);
    if (a.clip_norm > 0 && norm > a.clip_norm) scale = a.clip_norm / norm;
    correct1 = 1 - ssm__power(a.beta1, step);
    correct2 = 1 - ssm__power(a.beta2, step);
    for (r = 0; r < table->rows; ++r) {
        const ssm_param *row = &table->row[r];
        const ssm_real decay = row->no_decay ? 0 : a.weight_decay;
        for (i = row->offset; i < row->offset + row->count; ++i) {
            const ssm_real g = grads[i] * scale;
            m[i] = a.beta1 * m[i] + (1 - a.beta1) * g;
            v[i] = a.beta2 * v[i] + (1 - a.beta2) * g * g;
            params[i] -= a.lr * (m[i] / correct1 / (ssm__sqrt(v[i] / correct2) + a.eps) + decay * params[i]);
        }
    }
    if (grad_norm) *grad_norm = norm;
    return SSM_OK;
}

/*=============================================================================
 * >>end
 *===========================================================================*/
#ifdef __cplusplus
}
#endif

#undef SSM__RESTRICT
#undef SSM__CHUNK
#undef SSM__DISC
#undef SSM__FORMAT
#undef SSM__SHARE_COST
#undef SSM__INLINE
#undef SSM__NOINLINE
#undef SSM__UNROLL
#undef SSM__SMALL_CORE
#undef SSM__BLOCK
#undef SSM__STEP_ROWS
#undef SSM__SCAN_LANES
#undef SSM__EXP2_NEAR
#undef SSM__LOG2E
#undef SSM__BOUND_ALIGN
#undef SSM__BOUND_MAGIC
#undef SSM__TREE_GRAIN
#undef SSM__S4_CHUNK
#undef SSM__LINE_CHUNKS
#undef SSM__LINE_NARROW
#undef SSM__LINE_PIECE
#undef SSM__LINE_APART
#undef SSM__LINE_STATES
#undef SSM__LINE_SHORTEST
#undef SSM__SIZE_MAX
#undef SSM__K
#undef SSM__EMPTY
#undef SSM__OPENMP
#undef SSM__MANTISSA
#undef SSM__BIAS
#undef SSM__PHI_TERMS

#endif /* SSM_IMPLEMENTATION */

/* CHANGES
 *   0.1.0  ops: linear, selective and S5 scans, causal convolution, linear, RMSNorm, FFT, HiPPO memory;
 *          layers: selective, S4D, S4, S5, S6, Mamba; matrices in bf16 and int8, blocks to attach; AdamW.
 *
 * LICENCE (MIT)
 *   Copyright (c) 2026 the ssm.h authors
 *
 *   Permission is hereby granted, free of charge, to any person obtaining a copy
 *   of this software and associated documentation files (the "Software"), to deal
 *   in the Software without restriction, including without limitation the rights
 *   to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
 *   copies of the Software, and to permit persons to whom the Software is
 *   furnished to do so, subject to the following conditions:
 *
 *   The above copyright notice and this permission notice shall be included in all
 *   copies or substantial portions of the Software.
 *
 *   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
 *   IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
 *   FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
 *   AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
 *   LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 *   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
 *   SOFTWARE.
 */
