// ssm.h in a program that took the obvious names first: a namespace, functions, types and the macros
// that some systems' headers define. The implementation is here too.
namespace ssm
{
struct mamba {
    int forward;
};
int step(const mamba &m)
{
    return m.forward + 1;
}
} // namespace ssm

struct layer;
struct core;
struct norm;
struct scan;
struct complex;
int linear(int x);
int conv(int x);
int copy(int x);
int fill(int x);
int status(int x);
int version(int x);
int bind(int x);
int init(int x);

#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define near nothing
#define far nothing
#define small char
#define interface struct
#define ERROR 0
#define OK 0
#define PI 3
#define REAL 1
#define SIZE 1
#define LANES 2
#define ALIGN 4
#define TILE 8

#define SSM_IMPLEMENTATION
#include "ssm.h"

#undef min
#undef max
#include <algorithm>
#include <cstdio>

namespace app
{
using ssm::mamba; // ours, not the library's ssm_mamba
namespace ssm = ::ssm;
} // namespace app

int main()
{
    app::mamba m{ssm_version()};
    ssm_mamba_config config{};
    ssm_mamba_config resolved;
    config.d_model = 8;
    if (ssm_mamba_config_resolve(&config, &resolved) != SSM_OK) return 1;
    return app::ssm::step(m) == SSM_VERSION + 1 && std::max(resolved.d_inner, std::size_t(1)) == 16 ? 0 : 2;
}
