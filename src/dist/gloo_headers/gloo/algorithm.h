// One of the gloo headers that LibTorch's ProcessGroupGloo.hpp includes but its wheel leaves out. That header keeps gloo's types
// behind pointers, so that declarations are enough; see src/dist/gloo.cpp.
#pragma once
