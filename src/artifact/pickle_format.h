// Opcodes and globals shared by the pickle reader and writer.
#pragma once

#include <cstdint>
#include <string_view>

#include "pgolf/artifact/raw_tensor.h"

namespace pgolf {

/// Of protocol 2, then those that protocols 3 to 5 add. The writer uses only the former.
enum class Op : uint8_t {
  mark = '(',
  stop = '.',
  pop = '0',
  pop_mark = '1',
  none = 'N',
  true_ = 0x88,
  false_ = 0x89,
  int32 = 'J',
  uint8 = 'K',
  uint16 = 'M',
  long1 = 0x8a,
  long4 = 0x8b,
  float64 = 'G',
  unicode = 'X',
  empty_list = ']',
  append = 'a',
  appends = 'e',
  empty_tuple = ')',
  tuple = 't',
  tuple1 = 0x85,
  tuple2 = 0x86,
  tuple3 = 0x87,
  empty_dict = '}',
  set_item = 's',
  set_items = 'u',
  get = 'h',
  long_get = 'j',
  put = 'q',
  long_put = 'r',
  global = 'c',
  reduce = 'R',
  new_object = 0x81,
  build = 'b',
  persistent_id = 'Q',
  protocol = 0x80,

  short_bytes = 'C',
  bytes = 'B',
  bytes8 = 0x8e,
  byte_array8 = 0x96,
  short_unicode = 0x8c,
  unicode8 = 0x8d,
  empty_set = 0x8f,
  add_items = 0x90,
  frozen_set = 0x91,
  new_object_with_keywords = 0x92,
  stack_global = 0x93,
  memoize = 0x94,
  frame = 0x95,
};

constexpr int first_protocol = 2, last_protocol = 5;
constexpr size_t max_global_chars = 200;

constexpr std::string_view ordered_dict_global = "collections OrderedDict";
constexpr std::string_view rebuild_tensor_global = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view rebuild_parameter_global = "torch._utils _rebuild_parameter";

struct StorageGlobal {
  DType dtype;
  std::string_view name;
};

constexpr StorageGlobal storage_globals[] = {
    {DType::float64, "torch DoubleStorage"},    {DType::float32, "torch FloatStorage"}, {DType::float16, "torch HalfStorage"},
    {DType::bfloat16, "torch BFloat16Storage"}, {DType::int64, "torch LongStorage"},    {DType::int32, "torch IntStorage"},
    {DType::int16, "torch ShortStorage"},       {DType::int8, "torch CharStorage"},     {DType::uint8, "torch ByteStorage"},
    {DType::boolean, "torch BoolStorage"},
};

}  // namespace pgolf
