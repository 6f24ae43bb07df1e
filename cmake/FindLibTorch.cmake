# Imported targets for the LibTorch inside a PyPI wheel, without its own TorchConfig.cmake (which cannot
# configure without a CUDA toolkit and pushes flags into every CUDA target).
#   torch::cpu   c10 + torch_cpu (no CUDA symbols, needs no toolkit)
#   torch::cuda  the above + c10_cuda + torch_cuda (only when the wheel has them)
# Input: LIBTORCH_DIR, the "torch" folder of the wheel (has include/ and lib/); by default the one that
# scripts/setup.sh installed, then the one of the Python on PATH.
set(LIBTORCH_DIR "" CACHE PATH "The torch folder of an installed PyTorch wheel")
set(_candidates "${LIBTORCH_DIR}" "$ENV{LIBTORCH_DIR}")
file(GLOB _private "${CMAKE_SOURCE_DIR}/build/deps/lib/python3*/site-packages/torch")
list(APPEND _candidates ${_private})
find_path(LIBTORCH_INCLUDE_DIR torch/csrc/api/include/torch/torch.h
          PATHS ${_candidates} PATH_SUFFIXES include NO_DEFAULT_PATH)
if(NOT LIBTORCH_INCLUDE_DIR)
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_FOUND)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE _from_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(_from_python)
      find_path(LIBTORCH_INCLUDE_DIR torch/csrc/api/include/torch/torch.h
                PATHS "${_from_python}" PATH_SUFFIXES include NO_DEFAULT_PATH)
    endif()
  endif()
endif()
if(LIBTORCH_INCLUDE_DIR)
  get_filename_component(_root "${LIBTORCH_INCLUDE_DIR}" DIRECTORY)
  if(EXISTS "${_root}/version.py")
    file(STRINGS "${_root}/version.py" _version REGEX "^__version__ *=")
    string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" LibTorch_VERSION "${_version}")
  endif()
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LIBTORCH_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "Run scripts/setup.sh, or pass the torch folder of an installed wheel with -DLIBTORCH_DIR=...")

if(LibTorch_FOUND AND NOT TARGET torch::cpu)
  set(LIBTORCH_LIB_DIR "${_root}/lib")
  get_filename_component(_site "${_root}" DIRECTORY)
  set(_includes "${LIBTORCH_INCLUDE_DIR}" "${LIBTORCH_INCLUDE_DIR}/torch/csrc/api/include")
  function(_torch_library name)
    add_library(torch::${name} SHARED IMPORTED GLOBAL)
    set_target_properties(torch::${name} PROPERTIES
      IMPORTED_LOCATION "${LIBTORCH_LIB_DIR}/lib${name}.so"
      INTERFACE_INCLUDE_DIRECTORIES "${_includes}")
  endfunction()
  _torch_library(c10)
  _torch_library(torch_cpu)
  find_package(Threads REQUIRED)
  add_library(torch::cpu INTERFACE IMPORTED GLOBAL)
  target_link_libraries(torch::cpu INTERFACE torch::torch_cpu torch::c10 Threads::Threads)
  # at::parallel_for is a header template: without this flag it runs on one thread in our code. The OpenMP
  # runtime is the wheel's own, which torch_cpu loads anyway (same soname as the system's).
  target_compile_options(torch::cpu INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  file(GLOB _gomp "${LIBTORCH_LIB_DIR}/libgomp*.so*")
  list(GET _gomp 0 _gomp)
  target_link_libraries(torch::cpu INTERFACE "${_gomp}")
  # A DT_RPATH in the executable is also used for the libraries that torch_cuda itself asks for.
  # The second is for a program in the folder PACKAGE/bin beside torch, wherever both are.
  set(LIBTORCH_RPATH "${LIBTORCH_LIB_DIR}")
  set(LIBTORCH_INSTALL_RPATH "$ORIGIN/../../torch/lib")
  foreach(_package cu13 cudnn nccl nvshmem cusparselt)
    list(APPEND LIBTORCH_INSTALL_RPATH "$ORIGIN/../../nvidia/${_package}/lib")
    if(EXISTS "${_site}/nvidia/${_package}/lib")
      list(APPEND LIBTORCH_RPATH "${_site}/nvidia/${_package}/lib")
    endif()
  endforeach()
  if(EXISTS "${LIBTORCH_LIB_DIR}/libtorch_cuda.so")
    _torch_library(c10_cuda)
    _torch_library(torch_cuda)
    add_library(torch::cuda INTERFACE IMPORTED GLOBAL)
    # Nothing refers to a symbol of torch_cuda, which registers its kernels when loaded: the linker must keep it.
    target_link_libraries(torch::cuda INTERFACE torch::cpu torch::c10_cuda
      "-Wl,--push-state,--no-as-needed" torch::torch_cuda "-Wl,--pop-state")
  endif()
endif()
