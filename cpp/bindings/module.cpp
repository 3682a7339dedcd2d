// The kernel as seen from Python: checks shapes, drops the GIL, calls the library.
#include "denoise5d/denoise.hpp"
#include "denoise5d/dispatch.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace py = pybind11;
using namespace denoise5d;

namespace {

constexpr int kDims = 5; // T, C, Z, Y, X

void require(bool holds, const std::string& rule) {
    if (!holds) throw std::invalid_argument(rule);
}

// The 4-D strides (in elements) of a TCZYX array of one channel.
Index channel_strides(const py::array& array) {
    const auto item = array.itemsize();
    return {array.strides(0) / item, array.strides(2) / item, array.strides(3) / item, 1};
}

template <class T> Input typed(const py::array& array) {
    return input_of(static_cast<const T*>(array.data()), channel_strides(array));
}

Input input_from(const py::array& array) {
    const auto type = array.dtype();
    if (type.kind() == 'f' && type.itemsize() == 4) return typed<float>(array);
    if (type.kind() == 'u') switch (type.itemsize()) {
        case 1: return typed<std::uint8_t>(array);
        case 2: return typed<std::uint16_t>(array);
        case 4: return typed<std::uint32_t>(array);
        case 8: return typed<std::uint64_t>(array);
        }
    if (type.kind() == 'i') switch (type.itemsize()) {
        case 1: return typed<std::int8_t>(array);
        case 2: return typed<std::int16_t>(array);
        case 4: return typed<std::int32_t>(array);
        case 8: return typed<std::int64_t>(array);
        }
    throw py::type_error("the data must be float32 or integers, got " +
                         std::string(py::str(static_cast<const py::object&>(type))));
}

// Python's signal handlers run in the main thread only; elsewhere this asks in vain.
bool python_interrupted() {
    const py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
}

void denoise_channel_py(const py::array& padded, py::array_t<float> out, const Index& image_shape,
                        const Index& padded_origin, const Index& core_start,
                        const NoiseModel& noise, const Parameters& parameters, int threads,
                        const std::string& isa) {
    require(padded.ndim() == kDims && out.ndim() == kDims, "arrays must be 5-D: T, C, Z, Y, X");
    require(padded.shape(1) == 1 && out.shape(1) == 1, "one channel at a time");
    const auto contiguous = [](const py::array& array) {
        return array.size() == 0 || array.shape(4) == 1 || array.strides(4) == array.itemsize();
    };
    require(contiguous(padded) && contiguous(out), "rows along x must be contiguous");
    require(out.writeable(), "the output array must be writeable");
    require(threads >= 1, "threads must be at least 1");
    BlockPlace place;
    place.image_shape = image_shape;
    constexpr int axis_of[kAxes] = {0, 2, 3, 4};
    for (int a = 0; a < kAxes; ++a) {
        place.padded.start[a] = padded_origin[a];
        place.padded.stop[a] = padded_origin[a] + padded.shape(axis_of[a]);
        place.core.start[a] = core_start[a];
        place.core.stop[a] = core_start[a] + out.shape(axis_of[a]);
    }
    const Input input = input_from(padded);
    const View<float> view{out.mutable_data(), channel_strides(out)};
    const Execution execution{threads, &loops_named(isa), python_interrupted};
    // The caller holds references to both arrays, and nothing below touches a Python object but
    // python_interrupted, which takes the GIL back: so it is safe to drop it here.
    const py::gil_scoped_release release;
    denoise_channel(input, place, noise, parameters, execution, view);
}

int team_size(int threads) {
    require(threads >= 1, "threads must be at least 1");
    int size = 0;
#pragma omp parallel num_threads(threads) reduction(+ : size)
    size += 1;
    return size;
}

py::dict build_info() {
    py::dict info;
    info["compiler"] = DENOISE5D_COMPILER;
    info["build_type"] = DENOISE5D_BUILD_TYPE;
#ifdef _OPENMP
    info["openmp"] = _OPENMP;
#else
    info["openmp"] = py::none();
#endif
    py::list names;
    for (const auto* loops : available_loops()) names.append(loops->name);
    info["instruction_sets"] = names;
    return info;
}

} // namespace

PYBIND11_MODULE(_kernel, m) {
    m.doc() = "The compiled kernel. Use denoise5d.kernel instead.";

    py::class_<NoiseModel>(m, "NoiseModel", py::module_local())
        .def(py::init<double, double, double>(), py::arg("gain"), py::arg("offset"),
             py::arg("read_noise"));
    py::class_<SafirParameters>(m, "SafirParameters", py::module_local())
        .def(py::init<Index, std::vector<Index>, float>(), py::arg("patch"), py::arg("windows"),
             py::arg("threshold"));
    py::class_<RidgeParameters>(m, "RidgeParameters", py::module_local())
        .def(py::init<Index, Index, Index, int, int>(), py::arg("patch"), py::arg("search"),
             py::arg("stride"), py::arg("group"), py::arg("rounds"));
    py::class_<Parameters>(m, "Parameters", py::module_local())
        .def(py::init<SafirParameters, RidgeParameters>(), py::arg("safir"), py::arg("ridge"));

    py::register_exception_translator([](std::exception_ptr raised) {
        try {
            if (raised) std::rethrow_exception(raised);
        } catch (const NonFinite& error) {
            const auto args = py::make_tuple(error.what(), error.count, error.first);
            PyErr_SetObject(PyExc_ArithmeticError, args.ptr());
        } catch (const Interrupted&) {
            // PyErr_CheckSignals has set the exception already (KeyboardInterrupt, usually).
            if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
        }
    });

    m.def("denoise_channel", &denoise_channel_py, py::arg("padded").noconvert(),
          py::arg("out").noconvert(), py::arg("image_shape"), py::arg("padded_origin"),
          py::arg("core_start"), py::arg("noise"), py::arg("parameters"), py::arg("threads"),
          py::arg("isa"));
    m.def("reach", &reach, py::arg("parameters"));
    m.def("scratch_bytes", &scratch_bytes, py::arg("parameters"), py::arg("shape"));
    m.def("team_size", &team_size, py::arg("threads"));
    m.def("build_info", &build_info);
}
