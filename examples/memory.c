/* memory.c - 260 years of sunspots in 128 numbers: HiPPO-LegS as an online memory.
 *
 *   memory [--data FILE] [--svg FILE]
 *
 * The sun is read one month at a time (examples/data/README.md) and never stored: each sample goes
 * into N coefficients and is forgotten, at O(N) per sample. At any moment the coefficients give back
 * the whole past, every year of it with the same weight, as a polynomial of degree N - 1:
 *
 *   ssm_hippo_update(c, N, k, sample)        k = 1, 2, 3, ... which sample this is
 *   ssm_hippo_recall(c, N, p, &value)        p = 0: the first sample, p = 1: the last one
 *
 * The program asks the memory for the whole past five times on the way and prints how far off it is,
 * for several N; draws what N = 128 remembers at the end; and writes the same as an SVG picture. */
#define SSM_IMPLEMENTATION
#include "../ssm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MONTHS = 3126, /* January 1749 to June 2009 */
    FIRST_YEAR = 1749,
    SIZES = 4,
    MOMENTS = 5,
    DRAWN = 2,    /* index of the size that is drawn and checked */
    COLUMNS = 80, /* of the drawing in the terminal */
    ROWS = 8,
    STRIPS = 3,
    TOP = 200 /* of the drawing's scale; single months reach 254 */
};

static const size_t sizes[SIZES] = {32, 64, 128, 256};
static const size_t moments[MOMENTS] = {600, 1200, 1800, 2400, MONTHS};

static void die(const char *what)
{
    fprintf(stderr, "memory: %s\n", what);
    exit(1);
}

static void must(ssm_status status)
{
    if (status != SSM_OK) die(ssm_status_string(status));
}

static void load(const char *path, ssm_real *signal)
{
    FILE *file = fopen(path, "r");
    double value;
    size_t i;
    if (!file) {
        fprintf(stderr, "memory: cannot read %s\n", path);
        exit(1);
    }
    for (i = 0; i < MONTHS && fscanf(file, "%lf", &value) == 1; ++i) signal[i] = (ssm_real)value;
    if (i < MONTHS || fscanf(file, "%lf", &value) == 1) die("not the data file of this example");
    fclose(file);
}

/* ---- remembering ------------------------------------------------------------------------- */

/* What the coefficients say about each of the k samples they have seen. */
static void recall_all(const ssm_real *c, size_t n, size_t k, ssm_real *past)
{
    size_t j;
    for (j = 0; j < k; ++j) must(ssm_hippo_recall(c, n, ((ssm_real)j + (ssm_real)0.5) / (ssm_real)k, &past[j]));
}

/* Root of the mean squared difference, in deviations of `truth`. */
static double relative_error(const ssm_real *past, const ssm_real *truth, size_t count)
{
    double sum = 0, mean, error = 0, spread = 0;
    size_t i;
    for (i = 0; i < count; ++i) sum += (double)truth[i];
    mean = sum / (double)count;
    for (i = 0; i < count; ++i) {
        error += ((double)past[i] - (double)truth[i]) * ((double)past[i] - (double)truth[i]);
        spread += ((double)truth[i] - mean) * ((double)truth[i] - mean);
    }
    return sqrt(error / spread);
}

/* Reads the whole signal into one memory of n numbers and stops at the moments to look back.
 *   errors out [MOMENTS]      past out [MONTHS]: as recalled at the end */
static void remember(const ssm_real *signal, size_t n, double *errors, ssm_real *past)
{
    ssm_real *c = (ssm_real *)calloc(n, sizeof *c); /* zero: nothing seen yet */
    size_t k, moment = 0;
    if (!c) die("out of memory");
    for (k = 1; k <= MONTHS; ++k) {
        must(ssm_hippo_update(c, n, k, signal[k - 1]));
        if (moment < MOMENTS && k == moments[moment]) {
            recall_all(c, n, k, past);
            errors[moment++] = relative_error(past, signal, k);
        }
    }
    free(c);
}

/* The running mean of 13 months in which the years of the sun are usually counted; the first and
 * last month of each window weigh half. Month j of the result is month j + 6 of the signal. */
static size_t smooth(const ssm_real *signal, ssm_real *mean)
{
    size_t j, i;
    for (j = 0; j + 12 < MONTHS; ++j) {
        ssm_real sum = (signal[j] + signal[j + 12]) / 2;
        for (i = j + 1; i < j + 12; ++i) sum += signal[i];
        mean[j] = sum / 12;
    }
    return MONTHS - 12;
}

/* ---- pictures ------------------------------------------------------------------------------ */

/* Height of the mean over some months, in rows. */
static int height(const ssm_real *x, size_t from, size_t to)
{
    double sum = 0;
    size_t i;
    int rows;
    for (i = from; i < to; ++i) sum += (double)x[i];
    rows = (int)floor(sum / (double)(to - from) * ROWS / TOP + 0.5);
    return rows < 0 ? 0 : rows > ROWS ? ROWS : rows;
}

/* The whole record in strips, a column for 13 months: bars are the sun, o is the memory. */
static void draw(const ssm_real *signal, const ssm_real *past)
{
    const size_t strip = MONTHS / STRIPS;
    size_t s, i;
    int row;
    for (s = 0; s < STRIPS; ++s) {
        printf("\n");
        for (row = ROWS; row >= 0; --row) {
            char line[COLUMNS + 1];
            for (i = 0; i < COLUMNS; ++i) {
                const size_t from = s * strip + i * strip / COLUMNS, to = s * strip + (i + 1) * strip / COLUMNS;
                line[i] = height(past, from, to) == row ? 'o' : height(signal, from, to) >= row ? ':' : ' ';
            }
            line[COLUMNS] = 0;
            printf("  %4d |%s\n", row * TOP / ROWS, line);
        }
        printf("  %-6d", (int)(FIRST_YEAR + s * strip / 12));
        printf("%*d\n", COLUMNS, (int)(FIRST_YEAR + (s + 1) * strip / 12));
    }
}

enum { LEFT = 50, UP = 50, WIDTH = 1100, HEIGHT = 280, SCALE = 260 };

static void svg_line(FILE *file, const ssm_real *x, size_t every, const char *style)
{
    size_t i;
    fprintf(file, "<polyline fill=\"none\" %s points=\"", style);
    for (i = every / 2; i < MONTHS; i += every)
        fprintf(file, "%.1f,%.1f\n", LEFT + WIDTH * ((double)i + 0.5) / MONTHS,
                UP + HEIGHT * (1 - (double)x[i] / SCALE));
    fprintf(file, "\"/>\n");
}

static void svg_tick(FILE *file, double x, double y, int across, int number)
{
    fprintf(file, "<path stroke=\"#999\" d=\"M%.1f %.1f%s\"/>\n", x, y, across ? "h-5" : "v5");
    fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%d</text>\n", across ? x - 9 : x,
            across ? y + 4 : y + 20, across ? "end" : "middle", number);
}

static void write_svg(const char *path, const ssm_real *signal, const ssm_real *past)
{
    FILE *file = fopen(path, "w");
    int i;
    if (!file) die("cannot write the SVG file");
    fprintf(file, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
                  "font-size=\"12\" fill=\"#333\">\n", LEFT + WIDTH + 20, UP + HEIGHT + 40);
    fprintf(file, "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
    fprintf(file, "<text x=\"%d\" y=\"22\" font-size=\"15\">%d months of sunspots, as a HiPPO-LegS memory of %lu "
                  "numbers recalls them at the end</text>\n", LEFT, MONTHS, (unsigned long)sizes[DRAWN]);
    fprintf(file, "<text x=\"%d\" y=\"40\" fill=\"#888\">monthly mean sunspot number</text>\n", LEFT);
    fprintf(file, "<text x=\"%d\" y=\"40\" fill=\"#c0392b\">recalled</text>\n", LEFT + 230);
    fprintf(file, "<path stroke=\"#999\" fill=\"none\" d=\"M%d %dv%dh%d\"/>\n", LEFT, UP, HEIGHT, WIDTH);
    for (i = 0; i <= 250; i += 50) svg_tick(file, LEFT, UP + HEIGHT * (1 - (double)i / SCALE), 1, i);
    for (i = 1750; i <= 2000; i += 25)
        svg_tick(file, LEFT + WIDTH * 12.0 * (i - FIRST_YEAR) / MONTHS, UP + HEIGHT, 0, i);
    svg_line(file, signal, 1, "stroke=\"#b5b5b5\" stroke-width=\"0.7\"");
    svg_line(file, past, 3, "stroke=\"#c0392b\" stroke-width=\"1.5\"");
    fprintf(file, "</svg>\n");
    if (ferror(file) | fclose(file)) die("cannot write the SVG file");
}

/* ---- the program ---------------------------------------------------------------------------- */

static int is_near(double value, double expected)
{
    return fabs(value - expected) < 0.02;
}

int main(int argc, char **argv)
{
    /* N = 128 at the five moments, and N = 64 at the end, as worked out in double precision. */
    static const double expected[MOMENTS] = {0.341, 0.334, 0.356, 0.367, 0.365}, expected_64 = 0.678;
    static ssm_real signal[MONTHS], curve[MONTHS], past[MONTHS], drawn[MONTHS];
    const char *data_path = "examples/data/sunspots.txt", *svg_path = "build/memory.svg";
    double errors[SIZES][MOMENTS], smooth_error;
    size_t s, m, count;
    int i, good = 1;
    for (i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--data")) data_path = argv[i + 1];
        else if (!strcmp(argv[i], "--svg")) svg_path = argv[i + 1];
        else break;
    }
    if (i < argc) die("usage: memory [--data FILE] [--svg FILE]");
    load(data_path, signal);
    for (s = 0; s < SIZES; ++s) remember(signal, sizes[s], errors[s], s == DRAWN ? drawn : past);

    printf("Sunspots, %d months from January %d, one at a time into a memory of N numbers.\n", MONTHS, FIRST_YEAR);
    printf("Error of the whole past, recalled at five moments (rmse / deviation):\n\n  months       year");
    for (s = 0; s < SIZES; ++s) printf("   N =%4lu", (unsigned long)sizes[s]);
    printf("\n");
    for (m = 0; m < MOMENTS; ++m) {
        printf("  %6lu       %4d", (unsigned long)moments[m], (int)(FIRST_YEAR + moments[m] / 12));
        for (s = 0; s < SIZES; ++s) printf("%9.3f", errors[s][m]);
        printf("\n");
        good &= is_near(errors[DRAWN][m], expected[m]);
    }
    good &= is_near(errors[DRAWN - 1][MOMENTS - 1], expected_64);
    count = smooth(signal, curve);
    smooth_error = relative_error(drawn + 6, curve, count);
    good &= is_near(smooth_error, 0.188);
    printf("\nMost of what %lu numbers cannot hold is month-to-month noise: against the smoothed curve\n"
           "(the usual running mean of 13 months) the error at the end is %.3f of its deviation.\n",
           (unsigned long)sizes[DRAWN], smooth_error);
    printf("With few numbers it is the 11-year cycle itself that does not fit: %d years are 24 cycles.\n", MONTHS / 12);
    printf("Where more numbers do worse, the samples are still too few for the discrete update to be exact.\n");
    printf("\nThe sun (bars) and what %lu numbers remember of it at the end (o):\n", (unsigned long)sizes[DRAWN]);
    draw(signal, drawn);
    write_svg(svg_path, signal, drawn);
    printf("\nThe same as a picture: %s\n", svg_path);
    if (!good) printf("The errors are NOT as expected.\n");
    return good ? 0 : 1;
}
