#include "pgolf/base/foreign_kind.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string_view>

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
    {"<?xml"sv, "XML"},
    {"%PDF"sv, "a PDF"},
    {"PAR1"sv, "a Parquet file"},
    {"PK\3\4"sv, "a ZIP archive or a file of torch.save"},
    // 20240520, little-endian, kShardMagic in data/shard.h.
    {"\x88\xd8\x34\x01"sv, "a token shard"},
};

}  // namespace

std::string wide_encoding(BytesView file) {
  const auto starts = [file](std::initializer_list<int> bytes) {
    return file.size() >= bytes.size() &&
           std::equal(bytes.begin(), bytes.end(), file.begin(), [](int a, std::byte b) { return a == std::to_integer<int>(b); });
  };
  if (starts({0xff, 0xfe, 0, 0}) || starts({0, 0, 0xfe, 0xff})) return "UTF-32";
  if (starts({0xff, 0xfe}) || starts({0xfe, 0xff})) return "UTF-16";
  constexpr size_t looked_at = 4;
  if (file.size() < looked_at) return "";
  const auto ascii = [file](size_t i) { return file[i] >= std::byte{0x09} && file[i] < std::byte{0x7f}; };
  const auto zero = [file](size_t i) { return file[i] == std::byte{0}; };
  if (ascii(0) && zero(1) && zero(2) && zero(3)) return "UTF-32";
  if (zero(0) && zero(1) && zero(2) && ascii(3)) return "UTF-32";
  if ((ascii(0) && zero(1) && ascii(2) && zero(3)) || (zero(0) && ascii(1) && zero(2) && ascii(3))) return "UTF-16";
  return "";
}

std::string describe_foreign(BytesView file) {
  if (file.empty()) return "an empty file";
  const std::string_view text(reinterpret_cast<const char*>(file.data()), std::min<size_t>(file.size(), 512));
  for (const Kind& kind : kinds) {
    if (text.starts_with(kind.start)) return kind.what;
  }
  constexpr size_t tar_magic = 257;
  if (text.size() > tar_magic && text.substr(tar_magic).starts_with("ustar")) return "a tar archive";
  if (const std::string encoding = wide_encoding(file); !encoding.empty()) return encoding + " text";
  const size_t start = text.find_first_not_of(" \t\r\n");
  const bool json = start != text.npos && (text[start] == '{' || text[start] == '[');
  const auto readable = [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t'; };
  if (!std::all_of(text.begin(), text.end(), readable)) return "";
  return json ? "JSON" : "a text file";
}

std::string foreign_clause(BytesView file) {
  const std::string kind = describe_foreign(file);
  return kind.empty() ? "" : ": it is " + kind;
}

}  // namespace pgolf
