/* cuda_rows.h - tests of row operations, RMSNorm and AdamW on a GPU; part of test_cuda.cu. */

static ssm_rows rows_in(const tensor &x, int device)
{
    const ssm_in v = x.in(device);
    return ssm_rows_of(v.data, v.time);
}

static ssm_rows_out rows_out(const tensor &x, int device)
{
    const ssm_out v = x.out(device);
    return ssm_rows_out_of(v.data, v.time);
}

static void rows_random(void)
{
    int i;
    for (i = 0; i < 6 * rounds && trouble == 0; ++i) {
        const ssm_format io = i % 2 ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const int half = i % 2;
        const size_t rows = pick(1, on_gpu ? 500 : 100), dim = pick(1, on_gpu ? 600 : 150);
        const int shared = chance(20) ? 2 : 0;
        tensor x, z, add, scale, y, dy, dx, dz, dadd, dscale;
        ssm_rowop op[2];
        ssm_rowop_grad g[2];
        ssm_sizes need;
        int d;
        memset(op, 0, sizeof op);
        memset(g, 0, sizeof g);
        make(&x, half, 0, rows, dim, 0, chance(50) ? DENSE : PADDED, shared, NORMAL);
        make(&z, half, 0, rows, dim, 0, chance(50) ? DENSE : PADDED, 0, NORMAL);
        if (chance(50)) make(&add, half, 0, rows, dim, 0, PADDED, 0, UNIFORM);
        make(&scale, 0, 0, 0, dim, 0, DENSE, 0, UNIFORM);
        make(&y, half, 0, rows, dim, 0, PADDED, 0, POISON);
        make(&dy, half, 0, rows, dim, 0, PADDED, 0, UNIFORM);
        if (chance(90)) make(&dx, half, 0, rows, dim, 0, PADDED, shared, UNIFORM);
        if (chance(90)) make(&dz, half, 0, rows, dim, 0, DENSE, 0, UNIFORM);
        if (chance(90)) make(&dadd, half, 0, rows, dim, 0, DENSE, 0, UNIFORM);
        if (chance(90)) make(&dscale, 0, 0, 0, dim, 0, DENSE, 0, UNIFORM);
        for (d = 0; d < 2; ++d) {
            op[d].kind = (ssm_rowop_kind)(i / 2 % 8);
            op[d].rows = rows;
            op[d].dim = dim;
            op[d].x = rows_in(x, d);
            op[d].z = rows_in(z, d);
            op[d].add = rows_in(add, d);
            op[d].scale = scale.in(d).data;
            op[d].y = rows_out(y, d);
            g[d].dy = rows_in(dy, d);
            g[d].dx = rows_out(dx, d);
            g[d].dz = rows_out(dz, d);
            g[d].dadd = rows_out(dadd, d);
            g[d].dscale = dscale.out(d).data;
        }
        tensor *const forward[] = {&y}, *const backward[] = {&dx, &dz, &dadd, &dscale};
        ok(ssm_row_forward(&op[0]), "host forward");
        twice([&] { ok(ssm_cuda_row_forward(&op[1], io, NULL), "forward"); }, forward, 1, "forward: other bits");
        compare(y, 1e-6, "y");
        ok(ssm_row_backward(&op[0], &g[0]), "host backward");
        ok(ssm_cuda_row_sizes(&op[1], io, &need), "sizes");
        block work(need.work_backward);
        twice([&] { ok(ssm_cuda_row_backward(&op[1], &g[1], io, work.memory(), NULL), "backward"); }, backward, 4,
              "backward: other bits");
        compare(dx, 1e-5, "dx");
        compare(dz, 1e-5, "dz");
        compare(dadd, 1e-5, "dadd");
        compare(dscale, 1e-5, "dscale");
        if (trouble)
            printf("     (kind %d rows %u dim %u bf16 %d)\n", (int)op[0].kind, (unsigned)rows, (unsigned)dim, half);
    }
}

static void rows_norm(void)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        const ssm_format io = i % 2 ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const int half = i % 2, shared = i % 6 == 0 ? 2 : 0;
        const size_t rows = pick(1, on_gpu ? 700 : 90), dim = pick(1, on_gpu ? 1600 : 150);
        tensor x, weight, y, dy, dx, dweight;
        ssm_norm host, device;
        ssm_sizes need;
        memset(&host, 0, sizeof host);
        make(&x, half, 0, rows, dim, 0, PADDED, 0, NORMAL);
        make(&weight, 0, 0, 0, dim, 0, DENSE, 0, UNIFORM);
        make(&y, half, 0, rows, dim, 0, PADDED, 0, POISON);
        make(&dy, half, 0, rows, dim, 0, DENSE, 0, UNIFORM);
        if (chance(90)) make(&dx, half, 0, rows, dim, 0, PADDED, shared, UNIFORM);
        if (chance(90)) make(&dweight, 0, 0, 0, dim, 0, DENSE, 0, UNIFORM);
        host.dim = dim;
        device = host;
        host.weight = weight.in(0).data;
        device.weight = weight.in(1).data;
        tensor *const forward[] = {&y}, *const backward[] = {&dx, &dweight};
        ok(ssm_norm_forward(&host, rows_in(x, 0), rows_out(y, 0), rows), "host forward");
        twice([&] { ok(ssm_cuda_norm_forward(&device, rows_in(x, 1), rows_out(y, 1), rows, io, NULL), "forward"); },
              forward, 1, "forward: other bits");
        compare(y, 1e-6, "y");
        ok(ssm_norm_backward(&host, rows_in(x, 0), rows_in(dy, 0), rows_out(dx, 0), dweight.out(0).data, rows),
           "host backward");
        ok(ssm_cuda_norm_sizes(&device, rows, io, &need), "sizes");
        block work(need.work_backward);
        twice(
            [&] {
                ok(ssm_cuda_norm_backward(&device, rows_in(x, 1), rows_in(dy, 1), rows_out(dx, 1), dweight.out(1).data,
                                          rows, io, work.memory(), NULL),
                   "backward");
            },
            backward, 2, "backward: other bits");
        compare(dx, 1e-5, "dx");
        compare(dweight, 1e-5, "dweight");
        if (trouble) printf("     (rows %u dim %u bf16 %d)\n", (unsigned)rows, (unsigned)dim, half);
    }
}

/* Three steps over a table of more rows than one launch takes. */
static void rows_adamw(void)
{
    enum { ROWS = 70 };
    static ssm_param row[ROWS];
    ssm_params table;
    ssm_adamw a;
    ssm_sizes need;
    tensor params, grads, moments, norm;
    size_t i, step;
    memset(&a, 0, sizeof a);
    memset(row, 0, sizeof row);
    table.row = row;
    table.capacity = table.rows = ROWS;
    table.count = 0;
    for (i = 0; i < ROWS; ++i) {
        row[i].offset = table.count;
        row[i].count = i % 9 == 0 ? 0 : pick(1, i % 20 == 1 ? 3000 : 70);
        row[i].no_decay = (int)(i % 3 == 0);
        table.count += row[i].count;
    }
    make(&params, 0, 0, 0, table.count, 0, DENSE, 0, UNIFORM);
    make(&grads, 0, 0, 0, table.count, 0, DENSE, 0, UNIFORM);
    make(&moments, 0, 0, 0, 2 * table.count, 0, DENSE, 0, POISON);
    make(&norm, 0, 0, 0, 1, 0, DENSE, 0, POISON);
    for (i = 0; i < 2 * table.count; ++i) moments.host[moments.base + i] = 0;
    moments.upload();
    a.lr = 0.01f;
    a.weight_decay = 0.1f;
    ok(ssm_cuda_adamw_sizes(&table, &need), "sizes");
    block work(need.work);
    for (step = 1; step <= 3; ++step) {
        a.clip_norm = step == 2 ? 1.0f : 0.0f;
        ok(ssm_adamw_step(&a, &table, params.out(0).data, grads.in(0).data, moments.out(0).data, step,
                          norm.out(0).data),
           "host");
        ok(ssm_cuda_adamw_step(&a, &table, params.out(1).data, grads.in(1).data, moments.out(1).data, step,
                               norm.out(1).data, work.memory(), NULL),
           "step");
        compare(params, 1e-6, "params");
        compare(moments, 1e-6, "moments");
        compare(norm, 1e-6, "norm");
    }
    a.lr = -1;
    require(ssm_cuda_adamw_step(&a, &table, params.out(1).data, grads.in(1).data, moments.out(1).data, 1, NULL,
                                work.memory(), NULL) == SSM_ERR_CONFIG,
            "a negative rate");
    require(ssm_cuda_adamw_step(&a, &table, NULL, grads.in(1).data, moments.out(1).data, 1, NULL, work.memory(),
                                NULL) == SSM_ERR_NULL,
            "no parameters");
}
