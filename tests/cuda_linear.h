/* cuda_linear.h - tests of matrix products on a GPU; part of test_cuda.cu. */

static void linear_random(void)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        const ssm_format io = i % 2 ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const int half = i % 2, shared = i % 8 == 0 ? 2 : 0;
        const size_t rows = on_gpu ? pick(1, shared ? 20 : chance(30) ? 3000 : 300) : shared ? 3 : pick(1, 150);
        const size_t in = pick(1, on_gpu ? 500 : 40), out = pick(1, on_gpu ? 500 : 140);
        tensor x, weight, bias, y, dy, dx, dweight, dbias;
        ssm_linear l[2];
        ssm_linear_grad g;
        ssm_sizes need;
        int d;
        memset(l, 0, sizeof l);
        make(&x, half, 0, rows, in, 0, PADDED, 0, UNIFORM);
        make(&weight, half, 0, 0, out, in, DENSE, 0, UNIFORM);
        if (chance(60)) make(&bias, 0, 0, 0, out, 0, DENSE, 0, UNIFORM);
        make(&y, half, 0, rows, out, 0, PADDED, 0, POISON);
        make(&dy, half, 0, rows, out, 0, PADDED, 0, UNIFORM);
        if (chance(90)) make(&dx, half, 0, rows, in, 0, DENSE, shared, UNIFORM);
        if (chance(90)) make(&dweight, 0, 0, 0, out, in, DENSE, 0, UNIFORM);
        if (chance(90)) make(&dbias, 0, 0, 0, out, 0, DENSE, 0, UNIFORM);
        for (d = 0; d < 2; ++d) {
            l[d].in = in;
            l[d].out = out;
            l[d].weight = weight.in(d).data;
            l[d].bias = bias.in(d).data;
        }
        g.dy = rows_in(dy, 1);
        g.dx = rows_out(dx, 1);
        g.dweight = dweight.out(1).data;
        g.dbias = dbias.out(1).data;
        tensor *const forward[] = {&y}, *const backward[] = {&dx, &dweight, &dbias};
        ok(ssm_linear_forward(&l[0], rows_in(x, 0), rows_out(y, 0), rows), "host forward");
        twice([&] { ok(ssm_cuda_linear_forward(&l[1], rows_in(x, 1), rows_out(y, 1), rows, io, NULL), "forward"); },
              forward, 1, "forward: other bits");
        compare(y, 1e-6, "y");
        ok(ssm_linear_backward(&l[0], rows_in(x, 0), rows_in(dy, 0), rows_out(dx, 0), dweight.out(0).data,
                               dbias.out(0).data, rows),
           "host backward");
        ok(ssm_cuda_linear_sizes(&l[1], rows, io, &need), "sizes");
        block work(need.work_backward);
        twice(
            [&] { ok(ssm_cuda_linear_backward(&l[1], rows_in(x, 1), &g, rows, io, work.memory(), NULL), "backward"); },
            backward, 3, "backward: other bits");
        compare(dx, half && shared ? 1e-2 : 1e-5, "dx"); /* bf16 rows that lie on each other are rounded one by one */
        compare(dweight, 1e-5, "dweight");
        compare(dbias, 1e-5, "dbias");
        if (trouble) printf("     (rows %u in %u out %u bf16 %d)\n", (unsigned)rows, (unsigned)in, (unsigned)out, half);
        if (i) continue;
        require(ssm_cuda_linear_forward(NULL, rows_in(x, 1), rows_out(y, 1), rows, io, NULL) == SSM_ERR_NULL,
                "no layer");
        require(ssm_cuda_linear_backward(&l[1], rows_in(x, 1), &g, rows, io, ssm_memory_of(work.data, 1), NULL) ==
                    SSM_ERR_MEMORY,
                "a byte of workspace");
    }
}

/* A row alone gives the bits that it has among others: one by one, ten, and all. */
static void linear_rows_of(size_t in)
{
    const size_t rows = 150, out = 33, each[3] = {150, 10, 1};
    std::vector<float> first;
    tensor x, weight, y;
    ssm_linear l;
    size_t r;
    int way;
    memset(&l, 0, sizeof l);
    make(&x, 0, 0, rows, in, 0, DENSE, 0, UNIFORM);
    make(&weight, 0, 0, 0, out, in, DENSE, 0, UNIFORM);
    make(&y, 0, 0, rows, out, 0, DENSE, 0, POISON);
    l.in = in;
    l.out = out;
    l.weight = weight.in(1).data;
    for (way = 0; way < 3; ++way) {
        reset(&y);
        for (r = 0; r < rows; r += each[way]) {
            ssm_rows from = rows_in(x, 1);
            ssm_rows_out to = rows_out(y, 1);
            from.data += (ptrdiff_t)r * from.row;
            to.data += (ptrdiff_t)r * to.row;
            ok(ssm_cuda_linear_forward(&l, from, to, each[way], SSM_FORMAT_REAL, NULL), "some rows");
        }
        if (way == 0) first = y.download();
        require(same_bits(first, y.download()), "the number of rows changes bits");
    }
}

static void linear_rows(void)
{
    linear_rows_of(70);
    linear_rows_of(72);
    linear_rows_of(660);
}

/* With an operand that is added, beside it or in place: the products alone, plus it. */
static void linear_add(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        const int half = i % 2, in_place = chance(50);
        const ssm_format io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const size_t rows = pick(1, 140), in = pick(1, 40), out = pick(1, 140);
        tensor x, weight, bias, add, y;
        ssm_linear l[2];
        size_t r, c;
        int d;
        memset(l, 0, sizeof l);
        make(&x, half, 0, rows, in, 0, PADDED, 0, UNIFORM);
        make(&weight, half, 0, 0, out, in, DENSE, 0, UNIFORM);
        make(&bias, 0, 0, 0, out, 0, DENSE, 0, UNIFORM);
        make(&y, half, 0, rows, out, 0, PADDED, 0, in_place ? UNIFORM : POISON);
        if (!in_place) make(&add, half, 0, rows, out, 0, PADDED, 0, UNIFORM);
        for (d = 0; d < 2; ++d) {
            l[d].in = in;
            l[d].out = out;
            l[d].weight = weight.in(d).data;
            l[d].bias = bias.in(d).data;
        }
        const tensor &other = in_place ? y : add;
        tensor *const outputs[] = {&y};
        twice([&] { ok(ssm__cuda_linear_run(&l[1], rows_in(x, 1), rows_in(other, 1), rows_out(y, 1), rows, io, NULL),
                       "add"); },
              outputs, 1, "add: other bits");
        const std::vector<float> before = other.host;
        const ssm_rows_out to = rows_out(y, 0);
        const ptrdiff_t step = rows_in(other, 0).row;
        ok(ssm_linear_forward(&l[0], rows_in(x, 0), to, rows), "host");
        for (r = 0; r < rows; ++r)
            for (c = 0; c < out; ++c)
                to.data[(ptrdiff_t)r * to.row + (ptrdiff_t)c] +=
                    before[(size_t)((ptrdiff_t)other.base + (ptrdiff_t)r * step + (ptrdiff_t)c)];
        compare(y, 1e-6, "y");
    }
}
