# pgolf_add_source_bundle(program area...) adds the object library pgolf_source_bundle, which holds the program's own source code.
# Linked into the program, it provides
#   extern "C" const unsigned char pgolf_source_bundle[];       an xz-compressed tar archive
#   extern "C" const unsigned long pgolf_source_bundle_size;    its size in bytes
# The archive, also ${CMAKE_BINARY_DIR}/source_bundle.tar.xz, holds what the program is built from: the areas' folders of src/ and
# include/pgolf/, src/apps/PROGRAM.cpp, cmake/ and the CMakeLists.txt above them. Equal sources give equal archives, whoever
# builds them and when: sorted names, fixed times, owners and modes, one compression thread.
include_guard(GLOBAL)

function(pgolf_add_source_bundle program)
  find_program(PGOLF_TAR NAMES gtar tar REQUIRED)
  find_program(PGOLF_XZ xz REQUIRED)
  set(folders ${ARGN})
  list(TRANSFORM folders PREPEND src/)
  list(APPEND folders cmake)
  foreach(area ${ARGN})
    list(APPEND folders include/pgolf/${area})
  endforeach()
  set(patterns "")
  foreach(folder ${folders})
    foreach(kind h cpp cu cuh cmake in txt)
      list(APPEND patterns ${CMAKE_SOURCE_DIR}/${folder}/*.${kind})
    endforeach()
  endforeach()
  file(GLOB_RECURSE files CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR} ${patterns})
  list(APPEND files CMakeLists.txt src/CMakeLists.txt src/apps/${program}.cpp)
  list(SORT files)

  set(names ${CMAKE_BINARY_DIR}/source_bundle.names)
  list(JOIN files "\n" lines)
  file(CONFIGURE OUTPUT ${names} CONTENT "${lines}\n" @ONLY)
  list(TRANSFORM files PREPEND ${CMAKE_SOURCE_DIR}/ OUTPUT_VARIABLE paths)
  set(tar ${CMAKE_BINARY_DIR}/source_bundle.tar)
  add_custom_command(
    OUTPUT ${tar}.xz
    COMMAND ${PGOLF_TAR} --create --file=${tar} --format=ustar --mtime=@0 --owner=root:0 --group=root:0
      --mode=u=rw,go=r --directory=${CMAKE_SOURCE_DIR} --no-recursion --files-from=${names}
    COMMAND ${PGOLF_XZ} --force -9 --extreme --threads=1 ${tar}
    DEPENDS ${paths} ${names}
    COMMENT "Packing the source bundle"
    VERBATIM)

  # The file is named by an assembler directive, which neither CMake's dependency scan nor a compiler cache follows.
  set(carrier ${CMAKE_BINARY_DIR}/source_bundle.cpp)
  file(CONFIGURE OUTPUT ${carrier} @ONLY CONTENT [[
asm(R"(
  .pushsection .rodata
  .global pgolf_source_bundle
  .type pgolf_source_bundle, %object
pgolf_source_bundle:
  .incbin "@tar@.xz"
pgolf_source_bundle_end:
  .size pgolf_source_bundle, pgolf_source_bundle_end - pgolf_source_bundle
  .global pgolf_source_bundle_size
  .type pgolf_source_bundle_size, %object
  .balign 8
pgolf_source_bundle_size:
  .quad pgolf_source_bundle_end - pgolf_source_bundle
  .size pgolf_source_bundle_size, 8
  .popsection
)");
]])
  set_source_files_properties(${carrier} PROPERTIES OBJECT_DEPENDS ${tar}.xz)
  add_library(pgolf_source_bundle OBJECT ${carrier})
  set_target_properties(pgolf_source_bundle PROPERTIES CXX_COMPILER_LAUNCHER "")
endfunction()
