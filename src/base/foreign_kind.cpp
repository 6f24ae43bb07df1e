#include <algorithm>

#include "pgolf/artifact/model_container.h"

namespace pgolf {
namespace {

using namespace std::string_view_literals;

struct Kind {
  std::string_view start;
  const char* what;
};

constexpr Kind kinds[] = {
    {"\x28\xb5\x2f\xfd"sv, "zstd-compressed"},
    {"\xfd\x37zXZ\0"sv, "xz-compressed (LZMA)"},
    {"\x5d\0\0"sv, "LZMA-compressed"},
    {"\x1f\x8b"sv, "gzip-compressed"},
    {"BZh"sv, "bzip2-compressed"},
    {"\x04\x22\x4d\x18"sv, "LZ4-compressed"},
    {"7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive"},
    {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv, "a torch.save file from before PyTorch 1.6 (save it again)"},
    {"\x80\x02"sv, "a bare Python pickle"},
    {"\x80\x03"sv, "a bare Python pickle"},
    {"\x80\x04"sv, "a bare Python pickle"},
    {"\x80\x05"sv, "a bare Python pickle"},
    {"GGUF"sv, "a GGUF model"},
    {"ggml"sv, "a GGML model"},
    {"\x89HDF"sv, "an HDF5 file"},
    {"\x93NUMPY"sv, "a NumPy array"},
    {"\x7f"
     "ELF"sv,
     "a program"},
    {"version https://git-lfs"sv, "a Git LFS pointer to a file that was not downloaded"},
    {"<!DOCTYPE"sv, "a web page"},
    {"<!doctype"sv, "a web page"},
    {"<html"sv, "a web page"},
    // 20240520, little-endian, kShardMagic in data/shard.h.
    {"\x88\xd8\x34\x01"sv, "a token shard"},
};

}  // namespace

std::string describe_foreign(BytesView file) {
  if (file.empty()) return "an empty file";
  const std::string_view text(reinterpret_cast<const char*>(file.data()), std::min<size_t>(file.size(), 512));
  for (const Kind& kind : kinds) {
    if (text.starts_with(kind.start)) return kind.what;
  }
  const auto readable = [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t'; };
  return std::all_of(text.begin(), text.end(), readable) ? "a text file" : "";
}

}  // namespace pgolf
