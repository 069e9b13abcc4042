/* cuda_linear.h - tests of matrix products on a GPU; part of test_cuda.cu. */

static int hook_wanted, hook_calls;

static float hook_read(const std::vector<unsigned char> &x, size_t at, ssm_format format)
{
    float r;
    uint16_t bits;
    if (format != SSM_FORMAT_BF16) {
        memcpy(&r, &x[at * 4], 4);
        return r;
    }
    memcpy(&bits, &x[at * 2], 2);
    return tensor::__uint_as_float_of(bits);
}

static std::vector<unsigned char> hook_fetch(const void *from, ptrdiff_t last, ssm_format format)
{
    std::vector<unsigned char> r((size_t)(last + 1) * (format == SSM_FORMAT_BF16 ? 2 : 4));
    cuda_ok(cudaMemcpy(r.data(), from, r.size(), cudaMemcpyDeviceToHost), "hook");
    return r;
}

/* The host program's products, by plain loops over what the description says. */
static ssm_status hook(const ssm_cuda_product *p, void *)
{
    const ptrdiff_t m = (ptrdiff_t)p->m, n = (ptrdiff_t)p->n, k = (ptrdiff_t)p->k;
    ptrdiff_t i, j, l;
    if (!hook_wanted) return SSM_ERR_CONFIG;
    hook_calls += 1;
    const std::vector<unsigned char> a = hook_fetch(p->a, (m - 1) * p->a_m + (k - 1) * p->a_k, p->io);
    const std::vector<unsigned char> b = hook_fetch(p->b, (n - 1) * p->b_n + (k - 1) * p->b_k, p->io);
    std::vector<unsigned char> c = hook_fetch(p->c, (m - 1) * p->c_m + n - 1, p->c_format);
    for (i = 0; i < m; ++i)
        for (j = 0; j < n; ++j) {
            const size_t at = (size_t)(i * p->c_m + j);
            double sum = p->add ? hook_read(c, at, p->c_format) : 0;
            for (l = 0; l < k; ++l)
                sum += (double)hook_read(a, (size_t)(i * p->a_m + l * p->a_k), p->io) *
                       hook_read(b, (size_t)(j * p->b_n + l * p->b_k), p->io);
            const float y = (float)sum;
            const uint16_t bits = ssm__bf16(y);
            if (p->c_format == SSM_FORMAT_BF16) memcpy(&c[at * 2], &bits, 2);
            else memcpy(&c[at * 4], &y, 4);
        }
    cuda_ok(cudaMemcpy(p->c, c.data(), c.size(), cudaMemcpyHostToDevice), "hook");
    return SSM_OK;
}

static void linear_random(void)
{
    int i;
    hook_calls = 0;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        const ssm_format io = i % 2 ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const int half = i % 2, shared = i % 8 == 0 ? 2 : 0;
        const size_t rows = on_gpu ? pick(1, shared ? 20 : chance(30) ? 3000 : 300) : shared ? 3 : pick(1, 150);
        const int whole = half && chance(60); /* rows of aligned groups of eight: on matrix units */
        const enum layout layout = whole ? DENSE : PADDED;
        const size_t in = whole ? 8 * pick(1, on_gpu ? 60 : 9) : pick(1, on_gpu ? 500 : 40);
        const size_t out = whole ? 8 * pick(1, on_gpu ? 60 : 18) : pick(1, on_gpu ? 500 : 140);
        tensor x, weight, bias, y, dy, dx, dweight, dbias;
        ssm_linear l[2];
        ssm_linear_grad g;
        ssm_sizes need;
        int d;
        memset(l, 0, sizeof l);
        make(&x, half, 0, rows, in, 0, layout, 0, UNIFORM);
        make(&weight, half, 0, 0, out, in, DENSE, 0, UNIFORM);
        if (chance(60)) make(&bias, 0, 0, 0, out, 0, DENSE, 0, UNIFORM);
        make(&y, half, 0, rows, out, 0, layout, 0, POISON);
        make(&dy, half, 0, rows, out, 0, layout, 0, UNIFORM);
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
        hook_wanted = i == 1 || chance(20);
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
        hook_wanted = 0;
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
    require(hook_calls > 0, "nobody asked the host program");
}

/* A row alone gives the bits that it has among others. */
static void linear_rows_of(int half, size_t in)
{
    const ssm_format io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
    const size_t rows = half && on_gpu ? 3000 : 150, out = half && on_gpu ? 1000 : 33;
    tensor x, weight, y, one;
    ssm_linear l;
    size_t r;
    memset(&l, 0, sizeof l);
    make(&x, half, 0, rows, in, 0, in % 4 ? PADDED : DENSE, 0, UNIFORM);
    make(&weight, half, 0, 0, out, in, DENSE, 0, UNIFORM);
    make(&y, half, 0, rows, out, 0, DENSE, 0, POISON);
    make(&one, half, 0, rows, out, 0, DENSE, 0, POISON);
    l.in = in;
    l.out = out;
    l.weight = weight.in(1).data;
    ok(ssm_cuda_linear_forward(&l, rows_in(x, 1), rows_out(y, 1), rows, io, NULL), "all rows");
    for (r = 0; r < rows;) {
        const size_t some = chance(50) ? 1 : pick(1, rows - r < 100 ? rows - r : 100);
        ssm_rows from = rows_in(x, 1);
        ssm_rows_out to = rows_out(one, 1);
        from.data = (const float *)((const char *)from.data + (ptrdiff_t)r * from.row * (half ? 2 : 4));
        to.data = (float *)((char *)to.data + (ptrdiff_t)r * to.row * (half ? 2 : 4));
        ok(ssm_cuda_linear_forward(&l, from, to, some, io, NULL), "some rows");
        r += some;
    }
    const std::vector<float> all = y.download(), few = one.download();
    size_t i, same = 0;
    for (i = 0; i < rows * out; ++i) same += memcmp(&all[y.base + i], &few[one.base + i], 4) == 0;
    if (same != rows * out)
        complain("the number of rows changes bits: elements that are the same", (double)same, (double)(rows * out));
}

static void linear_rows(void)
{
    linear_rows_of(0, 70);
    linear_rows_of(0, 72);
    linear_rows_of(0, 660);
    linear_rows_of(0, 2200); /* more than one stage, of one row too */
    EMULATOR(emulator_shared = 99 * 1024); /* one on its way */
    EMULATOR(linear_rows_of(0, 2200));
    EMULATOR(emulator_shared = 227 * 1024);
    linear_rows_of(1, 1096);
    linear_rows_of(1, 4712);
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
        const ssm__cuda_product p =
            ssm__cuda_linear_product(&l[1], rows_in(x, 1), rows_in(other, 1), rows_out(y, 1), rows, io);
        twice([&] { ok(ssm__cuda_linear_run(&l[1], p, io, chance(50), NULL), "add"); },
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

/* One product on the matrix units by each tile, which must agree to the bit, against loops in double. An operand that is
 * not inner has a row for each inner index. Numbers that must not be read lie beside. */
template <int A_INNER, int B_INNER> static void linear_product(size_t M, size_t N, size_t K, int parts)
{
    const size_t a_row = ((A_INNER ? K : M) + 7) / 8 * 8, b_row = ((B_INNER ? K : N) + 7) / 8 * 8;
    tensor a, b, c, bias, part;
    ssm__cuda_product p = ssm__cuda_product_of(M, N, K);
    size_t m, n, k;
    int tile;
    const int backwards = chance(25); /* and copies by threads, where a large tile has others */
    make(&a, 1, 0, A_INNER ? M : K, a_row, 0, DENSE, 0, UNIFORM);
    make(&b, 1, 0, B_INNER ? N : K, b_row, 0, DENSE, 0, UNIFORM);
    make(&c, 1, 0, M, N, 0, chance(50) ? DENSE : PADDED, 0, UNIFORM);
    if (chance(50)) make(&bias, 0, 0, 0, N, 0, DENSE, 0, UNIFORM);
    p.depth = parts ? pick(1, K) : K;
    if (parts) make(&part, 0, 0, (K + p.depth - 1) / p.depth * M, N, 0, DENSE, 0, POISON);
    p.b = rows_in(b, 1).data;
    p.c = rows_out(c, 1).data;
    p.a_row = backwards ? -(ptrdiff_t)a_row : (ptrdiff_t)a_row;
    const ptrdiff_t begins = backwards ? (ptrdiff_t)(((A_INNER ? M : K) - 1) * a_row) : 0;
    p.a = (const uint16_t *)(const void *)rows_in(a, 1).data + begins;
    p.b_row = (ptrdiff_t)b_row;
    p.c_row = rows_in(c, 1).row;
    p.bias = bias.in(1).data;
    p.add = chance(50) ? p.c : NULL;
    p.add_row = p.c_row;
    p.part = (float *)part.out(1).data;
    require(ssm__cuda_units_suit(&p), "the operands do not suit");
    tensor &to = parts ? part : c;
    const int add = p.add && !parts;
    std::vector<float> first;
    for (tile = 0; tile < 4 && trouble == 0; ++tile) {
        EMULATOR(emulator_shared = (tile == 3 ? 99 : chance(50) ? 163 : 227) * 1024; emulator_order = tile % 2);
        const ssm__cuda_units q = ssm__cuda_units_of(p);
        if (tile == 0)
            ok(ssm__cuda_units_launch<ssm__cuda_middle, A_INNER, B_INNER>(q, 4, (size_t)-1, NULL), "middle");
        else if (tile == 1 && A_INNER && B_INNER && ssm__cuda_few_suits(&p, SSM_FORMAT_BF16))
            ok(ssm__cuda_few_run(ssm__cuda_few_of(p, chance(50)), SSM_FORMAT_BF16, NULL), "few");
        else if (tile == 1 && A_INNER)
            ok(ssm__cuda_units_launch<ssm__cuda_narrow, 1, B_INNER>(q, 8, (size_t)-1, NULL), "narrow");
        else ok(ssm__cuda_units_large<A_INNER, B_INNER>(p, NULL), "large");
        EMULATOR(emulator_order = 0);
        if (tile == 0) first = to.download();
        else if (!same_bits(first, to.download())) complain("another tile, other bits: tile", tile, 0);
        if (tile < 3) reset(&to);
    }
    EMULATOR(emulator_shared = 227 * 1024);
    for (m = 0; m < M * (parts ? (K + p.depth - 1) / p.depth : 1); ++m)
        for (n = 0; n < N; ++n) {
            const size_t begin = m / M * p.depth, end = begin + p.depth < K ? begin + p.depth : K, row = m % M;
            double sum = bias.host.empty() || parts ? 0 : bias.in(0).data[n];
            float *y = rows_out(to, 0).data + ((ptrdiff_t)m * rows_in(to, 0).row + (ptrdiff_t)n);
            for (k = begin; k < end; ++k)
                sum += (double)rows_in(a, 0).data[begins + (A_INNER ? (ptrdiff_t)row * p.a_row + (ptrdiff_t)k
                                                                       : (ptrdiff_t)k * p.a_row + (ptrdiff_t)row)] *
                       rows_in(b, 0).data[B_INNER ? n * b_row + k : k * b_row + n];
            *y = (float)((add ? *y : 0) + sum);
        }
    compare(to, parts ? 1e-5 : 1e-6, "product");
    if (trouble) printf("     (%u x %u x %u, inner %d %d)\n", (unsigned)M, (unsigned)N, (unsigned)K, A_INNER, B_INNER);
}

static void linear_tiles(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        const size_t most = on_gpu ? 700 : 290, grain = chance(50) ? 8 : 1; /* columns by eights */
        const size_t M = pick(1, chance(50) ? 20 : on_gpu ? 700 : 150), N = grain * pick(1, most / grain);
        linear_product<1, 1>(M, N, chance(50) ? 8 * pick(1, 25) : pick(1, on_gpu ? 900 : 200), 0);
        linear_product<1, 0>(M, N, pick(1, on_gpu ? 900 : 200), 0);
        linear_product<0, 0>(N, M, pick(1, on_gpu ? 900 : 200), 1);
    }
}
