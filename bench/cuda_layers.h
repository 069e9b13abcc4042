/* cuda_layers.h - layers on a GPU; part of bench_cuda.cu. */

/* A Mamba block of the shape of mamba-130m, and `layers` of them with a head as the whole model decodes. */
struct mamba_bench {
    ssm_mamba_config config;
    ssm_seqs seqs;
    ssm_sizes need;
    ssm_mamba layer;
    size_t params;
    array *weights, *bound;

    mamba_bench(size_t batch, size_t len, ssm_format io) : weights(NULL), bound(NULL)
    {
        ssm_params table = ssm_params_of(NULL, 0);
        memset(&config, 0, sizeof config);
        memset(&seqs, 0, sizeof seqs);
        config.d_model = 768;
        config.format = io;
        config.pre_norm = config.residual = 1;
        seqs.batch = batch;
        seqs.len = len;
        ok(ssm_cuda_mamba_sizes(&config, &seqs, &need), "sizes");
        ok(ssm_mamba_params(&config, NULL, &table), "table");
        params = table.count;
        std::vector<float> host(params);
        ok(ssm_mamba_init(&config, host.data(), 1), "init");
        weights = new array(params, SSM_FORMAT_REAL, 0, 0);
        bound = new array(need.bound / 4 + 64, SSM_FORMAT_REAL, 0, 0);
        check(cudaMemcpy(weights->data, host.data(), params * 4, cudaMemcpyHostToDevice) == cudaSuccess, "params");
        ok(ssm_cuda_mamba_bind(&layer, &config, weights->data, ssm_memory_of(bound->data, need.bound), NULL), "bind");
    }
    ~mamba_bench()
    {
        delete weights;
        delete bound;
    }
    mamba_bench(const mamba_bench &) = delete;
    mamba_bench &operator=(const mamba_bench &) = delete;
};

/* Limit: the products at the rate of their unit, and nothing else. */
static void mamba_block(size_t batch, size_t len, ssm_format io, double rival, double bar)
{
    const size_t n = batch * len * 768;
    const double macs = (double)batch * len * (768.0 * 3072 + 1536 * 80 + 48 * 1536 + 1536 * 768);
    const double limit = 2 * macs / (io == SSM_FORMAT_BF16 ? 790e12 : 66.9e12) * 1e3;
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32";
    char name[100];
    mamba_bench m(batch, len, io);
    array x(n, io, -1, 1), y(n, io, 0, 0), dy(n, io, -1, 1), dx(n, io, 0, 0), dparams(m.params, SSM_FORMAT_REAL, 0, 0);
    array work(m.need.work / 4 + 64, SSM_FORMAT_REAL, 0, 0), tape(m.need.tape / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    array back(m.need.work_backward / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    const ssm_memory w = ssm_memory_of(work.data, m.need.work), t = ssm_memory_of(tape.data, m.need.tape),
                     b = ssm_memory_of(back.data, m.need.work_backward);
    const ssm_layer_grad g = {dy.data, dx.data, dparams.data, NULL};
    snprintf(name, sizeof name, "Mamba block forward %s %zux%zu, d_model 768", type, batch, len);
    if (!wanted(name)) return;
    report(name, milliseconds([&] { ok(ssm_cuda_mamba_forward(&m.layer, NULL, x.data, y.data, &m.seqs, w, NULL), name); }),
           limit, rival, bar);
    snprintf(name, sizeof name, "Mamba block record %s %zux%zu, d_model 768", type, batch, len);
    report(name, milliseconds([&] {
               ok(ssm_cuda_mamba_record(&m.layer, NULL, x.data, y.data, &m.seqs, t, w, NULL), name);
           }),
           limit, 0, 0);
    snprintf(name, sizeof name, "Mamba block backward %s %zux%zu, d_model 768", type, batch, len);
    report(name, milliseconds([&] {
               ok(ssm_cuda_mamba_backward(&m.layer, x.data, &g, &m.seqs, t, b, NULL), name);
           }),
           2 * limit, 0, 0);
}

/* One token of mamba-130m in a graph: 24 blocks, the last norm, the head of 50,280 words. Limit: the weights once. */
static void mamba_decode(size_t streams, ssm_format io, double rival, double bar)
{
    enum { LAYERS = 24, WORDS = 50280, M = 768 };
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32";
    const size_t e = io == SSM_FORMAT_BF16 ? 2 : 4;
    char name[100];
    std::vector<mamba_bench *> blocks;
    size_t i;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t run;
    snprintf(name, sizeof name, "decode 130m %s, %zu streams, a token in a graph", type, streams);
    if (!wanted(name)) return;
    for (i = 0; i < LAYERS; ++i) blocks.push_back(new mamba_bench(streams, 1, io));
    const ssm_sizes need = blocks[0]->need;
    array x(streams * M, io, -1, 1), y(streams * M, io, 0, 0), head(WORDS * M, io, -0.05f, 0.05f);
    array logits(streams * WORDS, io, 0, 0), weight(M, SSM_FORMAT_REAL, 0, 1), work(need.work / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    array state(LAYERS * need.state / 4, SSM_FORMAT_REAL, 0, 0);
    const ssm_memory w = ssm_memory_of(work.data, need.work);
    ssm_norm norm;
    ssm_linear l;
    memset(&norm, 0, sizeof norm);
    memset(&l, 0, sizeof l);
    norm.dim = M;
    norm.weight = weight.data;
    l.in = M;
    l.out = WORDS;
    l.weight = head.data;
    check(cudaStreamCreate(&stream) == cudaSuccess, "stream");
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess, "capture");
    for (i = 0; i < LAYERS; ++i)
        ok(ssm_cuda_mamba_step(&blocks[i]->layer, state.data + i * need.state / 4, i ? y.data : x.data, y.data, streams, w,
                               stream), name);
    ok(ssm_cuda_norm_forward(&norm, ssm_rows_of(y.data, M), ssm_rows_out_of(y.data, M), streams, io, stream), name);
    ok(ssm_cuda_linear_forward(&l, ssm_rows_of(y.data, M), ssm_rows_out_of(logits.data, WORDS), streams, io, stream), name);
    check(cudaStreamEndCapture(stream, &graph) == cudaSuccess && cudaGraphInstantiate(&run, graph, 0) == cudaSuccess,
          "graph");
    report(name, milliseconds([&] { cudaGraphLaunch(run, 0); }),
           (double)e * (LAYERS * (768.0 * 3072 + 1536 * 80 + 48 * 1536 + 1536 * 768) + (double)WORDS * M) / BANDWIDTH / 1e6,
           rival, bar);
    for (i = 0; i < LAYERS; ++i) delete blocks[i];
}

static void layers(void)
{
    mamba_block(8, 2048, SSM_FORMAT_REAL, 0, 0);
    mamba_block(8, 2048, SSM_FORMAT_BF16, 0.84, 0.75);
    mamba_decode(1, SSM_FORMAT_REAL, 0.600, 0.400);
    mamba_decode(64, SSM_FORMAT_REAL, 1.633, 0);
    mamba_decode(1, SSM_FORMAT_BF16, 0.476, 0);
    mamba_decode(64, SSM_FORMAT_BF16, 0.812, 0);
}
