#include "denoise5d/dispatch.hpp"

#include <stdexcept>

namespace denoise5d {

namespace baseline {
extern const Loops loops;
}
#ifdef DENOISE5D_HAS_V3
namespace v3 {
extern const Loops loops;
}
#endif
#ifdef DENOISE5D_HAS_V4
namespace v4 {
extern const Loops loops;
}
#endif

std::vector<const Loops*> available_loops() {
    std::vector<const Loops*> all = {&baseline::loops};
#ifdef DENOISE5D_HAS_V3
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma"))
        all.push_back(&v3::loops);
#endif
#ifdef DENOISE5D_HAS_V4
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        all.push_back(&v4::loops);
#endif
    return all;
}

const Loops& loops_named(const std::string& name) {
    const auto all = available_loops();
    if (name == "auto") return *all.back();
    std::string known;
    for (const auto* loops : all) {
        if (name == loops->name) return *loops;
        known += std::string(" ") + loops->name;
    }
    throw std::invalid_argument("no instruction set '" + name + "' here; there are: auto" + known);
}

} // namespace denoise5d
