/* fuzz_config.h - random configurations of all nine layers, most of them valid, for the programs that run layers. */
#ifndef SSM_FUZZ_CONFIG_H
#define SSM_FUZZ_CONFIG_H

#include "test_layers.c" /* the verbs of every layer in one table, and oracles */

enum { FUZZ_SELECTIVE, FUZZ_S6, FUZZ_MAMBA, FUZZ_MAMBA2, FUZZ_MAMBA3, FUZZ_RGLRU, FUZZ_S4D, FUZZ_S4, FUZZ_S5,
       FUZZ_LAYERS };

static const layer_type *const fuzz_types[FUZZ_LAYERS] = {&layer_selective, &layer_s6,  &layer_mamba, &layer_mamba2,
                                                          &layer_mamba3,    &layer_rglru, &layer_s4d, &layer_s4,
                                                          &layer_s5};
static const char *const fuzz_names[FUZZ_LAYERS] = {"selective", "s6", "mamba", "mamba2", "mamba3", "rglru", "s4d", "s4",
                                                    "s5"};

/* An extent of a config: fuzz_small, or fuzz_sizes's own. */
typedef size_t (*fuzz_extents)(size_t most);

static size_t fuzz_small(size_t most)
{
    return fuzz_between(1, most);
}

/* 0, the default, or an extent. */
static size_t fuzz_optional(fuzz_extents extent, size_t most)
{
    return fuzz_chance(3) ? 0 : extent(most);
}

/* 0 .. count - 1, seldom a number that the enumeration does not have. */
static int fuzz_option(size_t count)
{
    static const int wrong[] = {-1, 1000, 2147483647};
    return fuzz_chance(60) ? wrong[fuzz_below(3)] : (int)fuzz_below(count);
}

static int fuzz_flag(void)
{
    return (int)fuzz_below(2);
}

/* The best, or another; one that this machine lacks among them. */
static ssm_isa fuzz_isa(void)
{
    return fuzz_chance(2) ? SSM_ISA_BEST : (ssm_isa)fuzz_option((size_t)ssm_isa_count());
}

/* A positive number near `usual`, seldom one that is out of range. */
static ssm_real fuzz_positive(double usual)
{
    static const double wrong[] = {-1, NAN, HUGE_VAL};
    if (fuzz_chance(60)) return (ssm_real)wrong[fuzz_below(3)];
    return fuzz_chance(2) ? 0 : (ssm_real)(usual * (0.5 + (double)fuzz_below(256) / 128));
}

static ssm_selective_config fuzz_selective(fuzz_extents extent)
{
    ssm_selective_config c = {0};
    c.d_model = extent(40), c.d_state = fuzz_optional(extent, 20);
    c.disc = (ssm_disc)fuzz_option(7), c.scan = (ssm_scan)fuzz_option(4), c.format = (ssm_format)fuzz_option(3);
    c.isa = fuzz_isa(), c.integer_A = fuzz_flag(), c.complex_A = fuzz_chance(3);
    return c;
}

static ssm_s6_config fuzz_s6(fuzz_extents extent)
{
    ssm_s6_config c = {0};
    c.n_groups = fuzz_chance(2) ? 0 : extent(3);
    c.d_model = extent(20) * (c.n_groups ? c.n_groups : 1) + (fuzz_chance(40) ? 1 : 0);
    c.d_state = fuzz_optional(extent, 20), c.dt_rank = fuzz_optional(extent, 8);
    c.disc = (ssm_disc)fuzz_option(7), c.scan = (ssm_scan)fuzz_option(4), c.format = (ssm_format)fuzz_option(3);
    c.isa = fuzz_isa(), c.no_dt_bias = fuzz_flag(), c.dt_init = (ssm_dt_init)fuzz_option(3);
    c.dt_min = fuzz_positive(0.001), c.dt_max = fuzz_positive(0.1), c.dt_floor = fuzz_positive(1e-4);
    c.dt_scale = fuzz_positive(1), c.dt_bias = (ssm_real)-0.5, c.complex_A = fuzz_chance(3);
    if (fuzz_chance(8)) ssm_s6_preset(&c, (ssm_preset)fuzz_option(4));
    return c;
}

static ssm_mamba_config fuzz_mamba(fuzz_extents extent)
{
    const ssm_s6_config s6 = fuzz_s6(extent);
    ssm_mamba_config c = {0};
    c.d_model = extent(24), c.d_state = s6.d_state, c.d_conv = fuzz_optional(extent, 6);
    c.expand = fuzz_optional(extent, 3), c.d_inner = fuzz_flag() || s6.n_groups ? s6.d_model : 0;
    c.dt_rank = s6.dt_rank, c.n_groups = s6.n_groups, c.disc = s6.disc, c.scan = s6.scan, c.format = s6.format;
    c.isa = s6.isa, c.pre_norm = fuzz_flag(), c.residual = fuzz_flag(), c.proj_bias = fuzz_flag();
    c.x_proj_bias = fuzz_flag(), c.dbc_norm = (ssm_dbc_norm)(fuzz_below(8) < 7 ? fuzz_below(3) : fuzz_below(9));
    c.no_conv_bias = fuzz_flag(), c.no_dt_bias = s6.no_dt_bias, c.mean_conv = fuzz_flag(), c.dt_init = s6.dt_init;
    c.dt_min = s6.dt_min, c.dt_max = s6.dt_max, c.dt_floor = s6.dt_floor, c.dt_scale = s6.dt_scale;
    c.dt_bias = s6.dt_bias, c.norm_eps = fuzz_positive(1e-5), c.complex_A = s6.complex_A;
    if (fuzz_chance(8)) ssm_mamba_preset(&c, (ssm_preset)fuzz_option(4));
    return c;
}

static ssm_mamba2_config fuzz_mamba2(fuzz_extents extent)
{
    ssm_mamba2_config c = {0};
    c.n_groups = fuzz_chance(2) ? 0 : extent(3), c.headdim = extent(12), c.d_model = extent(24);
    c.d_inner = extent(4) * c.headdim * (c.n_groups ? c.n_groups : 1) + (fuzz_chance(40) ? 1 : 0);
    c.d_state = fuzz_optional(extent, 20), c.d_conv = fuzz_optional(extent, 6);
    if (fuzz_chance(10)) c.d_inner = 0, c.headdim = fuzz_chance(2) ? 0 : 1, c.n_groups = 0, c.expand = extent(3);
    c.scan = (ssm_scan)fuzz_option(4), c.format = (ssm_format)fuzz_option(3), c.isa = fuzz_isa();
    c.pre_norm = fuzz_flag(), c.residual = fuzz_flag(), c.proj_bias = fuzz_flag(), c.no_conv_bias = fuzz_flag();
    c.no_norm = fuzz_flag(), c.norm_before_gate = fuzz_flag(), c.D_has_hdim = fuzz_flag();
    c.dt_limit_min = fuzz_chance(2) ? 0 : fuzz_positive(0.01), c.dt_limit_max = fuzz_positive(0.5);
    c.dt_min = fuzz_positive(0.001), c.dt_max = fuzz_positive(0.1), c.dt_floor = fuzz_positive(1e-4);
    c.A_min = fuzz_positive(1), c.A_max = fuzz_positive(16), c.norm_eps = fuzz_positive(1e-5);
    return c;
}

static ssm_mamba3_config fuzz_mamba3(fuzz_extents extent)
{
    ssm_mamba3_config c = {0};
    c.n_groups = fuzz_chance(2) ? 0 : extent(3), c.headdim = extent(20), c.d_model = extent(24);
    c.d_inner = extent(4) * c.headdim * (c.n_groups ? c.n_groups : 1) + (fuzz_chance(40) ? 1 : 0);
    c.mimo_rank = fuzz_chance(2) ? 0 : extent(5), c.rope_fraction = fuzz_chance(20) ? 2 : (ssm_real)(fuzz_flag() ? 0 : 1);
    c.d_state = (extent(10) + (fuzz_chance(20) ? 0 : 1)) * 2 + (c.mimo_rank && !fuzz_chance(40) ? 0 : (size_t)fuzz_flag());
    if (fuzz_chance(10)) c.d_inner = 0, c.headdim = fuzz_chance(2) ? 0 : 1, c.n_groups = 0, c.expand = extent(3);
    c.format = (ssm_format)fuzz_option(3), c.isa = fuzz_isa();
    c.pre_norm = fuzz_flag(), c.residual = fuzz_flag(), c.out_norm = fuzz_flag();
    c.dt_min = fuzz_positive(0.001), c.dt_max = fuzz_positive(0.1), c.dt_floor = fuzz_positive(1e-4);
    c.A_floor = fuzz_positive(1e-4), c.norm_eps = fuzz_positive(1e-5);
    return c;
}

static ssm_rglru_config fuzz_rglru(fuzz_extents extent)
{
    ssm_rglru_config c = {0};
    c.num_heads = fuzz_chance(2) ? 0 : extent(4);
    c.d_model = extent(24), c.lru_width = extent(20) * (c.num_heads ? c.num_heads : 1) + (fuzz_chance(40) ? 1 : 0);
    c.conv_width = fuzz_optional(extent, 6), c.format = (ssm_format)fuzz_option(3), c.isa = fuzz_isa();
    if (fuzz_chance(3)) c.no_block = 1, c.d_model = c.lru_width, c.conv_width = fuzz_chance(20) ? c.conv_width : 0;
    if (fuzz_chance(10)) c.lru_width = 0, c.num_heads = fuzz_chance(2) ? 0 : c.d_model;
    c.no_reset = fuzz_flag(), c.no_bias = fuzz_flag(), c.no_conv_bias = fuzz_flag(), c.exact_gelu = fuzz_flag();
    c.c = fuzz_positive(8), c.a_min = fuzz_positive(0.5), c.a_max = fuzz_chance(2) ? 0 : fuzz_positive(0.9);
    return c;
}

static ssm_s4d_config fuzz_s4d(fuzz_extents extent)
{
    ssm_s4d_config c = {0};
    c.n_ssm = fuzz_chance(2) ? 0 : extent(3);
    c.d_model = extent(20) * (c.n_ssm ? c.n_ssm : 1) + (fuzz_chance(40) ? 1 : 0);
    c.real_state = fuzz_chance(3), c.d_state = extent(10) * (c.real_state || fuzz_chance(40) ? 1 : 2);
    c.train_B = fuzz_flag(), c.no_dt = fuzz_chance(4), c.disc = (ssm_disc)fuzz_option(5);
    c.scan = (ssm_scan)fuzz_option(4), c.init = (ssm_s4_A_init)fuzz_option(c.real_state ? 3 : 7);
    c.weights = (ssm_s4_weights)fuzz_option(4), c.normal_dt = fuzz_chance(4);
    c.dt_min = fuzz_positive(0.001), c.dt_max = fuzz_positive(0.1), c.format = (ssm_format)fuzz_option(3);
    c.isa = fuzz_isa(), c.form = (ssm_s4_form)fuzz_option(3), c.bidirectional = fuzz_chance(4);
    c.activation = (ssm_s4_activation)fuzz_option(2), c.output = (ssm_s4_output)fuzz_option(2);
    c.pre_norm = fuzz_flag(), c.residual = fuzz_flag(), c.norm_eps = fuzz_positive(1e-5);
    if (fuzz_chance(8)) ssm_s4d_preset(&c, (ssm_preset)fuzz_option(4));
    return c;
}

static ssm_s4_config fuzz_s4(fuzz_extents extent)
{
    const ssm_s4d_config d = fuzz_s4d(extent);
    ssm_s4_config c = {0};
    c.d_model = d.d_model, c.d_state = d.d_state * (d.real_state ? 2 : 1), c.n_ssm = d.n_ssm;
    c.l_max = fuzz_chance(6) ? extent(30) : 0, c.scan = fuzz_chance(20) ? d.scan : (ssm_scan)fuzz_option(2);
    c.dt_min = d.dt_min, c.dt_max = d.dt_max, c.format = d.format, c.isa = d.isa, c.form = d.form;
    c.bidirectional = d.bidirectional, c.activation = d.activation, c.output = d.output, c.pre_norm = d.pre_norm;
    c.residual = d.residual, c.norm_eps = d.norm_eps;
    return c;
}

static ssm_s5_config fuzz_s5(fuzz_extents extent)
{
    ssm_s5_config c = {0};
    c.blocks = fuzz_chance(2) ? 0 : extent(3), c.no_conj_sym = fuzz_chance(3), c.real_state = fuzz_chance(4);
    c.d_model = extent(32);
    c.d_state = extent(8) * (c.blocks ? c.blocks : 1) * (c.no_conj_sym || fuzz_chance(40) ? 1 : 2);
    c.disc = (ssm_disc)fuzz_option(5), c.scan = (ssm_scan)fuzz_option(4), c.format = (ssm_format)fuzz_option(3);
    c.isa = fuzz_isa(), c.activation = (ssm_s5_activation)fuzz_option(5), c.bidirectional = fuzz_chance(4);
    c.clip_eigs = fuzz_flag(), c.event = fuzz_chance(4), c.pre_norm = fuzz_flag(), c.residual = fuzz_flag();
    c.dt_min = fuzz_positive(0.001), c.dt_max = fuzz_positive(0.1), c.step_rescale = fuzz_positive(1);
    c.norm_eps = fuzz_positive(1e-5);
    c.lru = fuzz_chance(4);
    if (c.lru && !fuzz_chance(20)) c.real_state = 0, c.disc = SSM_DISC_DEFAULT;
    if (fuzz_chance(4)) c.r_min = fuzz_positive(0.5), c.r_max = fuzz_positive(0.9), c.max_phase = fuzz_positive(1);
    if (c.real_state && !fuzz_chance(20)) c.bidirectional = 0, c.blocks = 0, c.no_conj_sym = 0, c.clip_eigs = 0;
    if (fuzz_chance(8)) ssm_s5_preset(&c, (ssm_preset)fuzz_option(4));
    return c;
}

/* A random config of layer `type`, all bytes behind it zero. */
static void fuzz_config(size_t type, fuzz_extents extent, layer_any_config *c)
{
    memset(c, 0, sizeof *c);
    switch (type) {
    case FUZZ_SELECTIVE: c->selective = fuzz_selective(extent); break;
    case FUZZ_S6: c->s6 = fuzz_s6(extent); break;
    case FUZZ_MAMBA: c->mamba = fuzz_mamba(extent); break;
    case FUZZ_MAMBA2: c->mamba2 = fuzz_mamba2(extent); break;
    case FUZZ_MAMBA3: c->mamba3 = fuzz_mamba3(extent); break;
    case FUZZ_RGLRU: c->rglru = fuzz_rglru(extent); break;
    case FUZZ_S4D: c->s4d = fuzz_s4d(extent); break;
    case FUZZ_S4: c->s4 = fuzz_s4(extent); break;
    default: c->s5 = fuzz_s5(extent); break;
    }
}

/* Which law of bits a resolved config keeps: forward = steps where `exact`; whether it can step at all. */
typedef struct fuzz_laws {
    int exact;
    int steps;
    int trains;
    int convolves; /* forward and record are two forms, and `work` is that of the larger */
} fuzz_laws;

static fuzz_laws fuzz_laws_of(size_t type, const layer_any_config *c)
{
    fuzz_laws laws = {1, 1, 1, 0};
    ssm_scan scan = fuzz_types[type]->scan(c);
    if (type == FUZZ_S4D) {
        scan = c->s4d.scan;
        laws.convolves = c->s4d.form == SSM_S4_FORM_CONVOLUTION;
        laws.steps = !c->s4d.bidirectional;
    } else if (type == FUZZ_S4) {
        laws.convolves = c->s4.form == SSM_S4_FORM_CONVOLUTION;
        laws.steps = !c->s4.bidirectional;
        laws.trains = c->s4.l_max == 0;
    } else if (type == FUZZ_S5) {
        laws.steps = !c->s5.bidirectional;
    }
    if (laws.convolves || scan == SSM_SCAN_CHUNKED || scan == SSM_SCAN_BLELLOCH) laws.exact = 0;
    return laws;
}

#endif
