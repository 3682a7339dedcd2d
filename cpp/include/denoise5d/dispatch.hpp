// Which instruction set runs.
#pragma once

#include "denoise5d/tile.hpp"

#include <string>
#include <vector>

namespace denoise5d {

// All that were built and that this machine can run, the best one last.
std::vector<const Loops*> available_loops();

// The one called `name`, or the best one for "auto". Throws std::invalid_argument.
const Loops& loops_named(const std::string& name);

} // namespace denoise5d
