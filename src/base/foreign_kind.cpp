#include "pgolf/base/foreign_kind.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string_view>
#include <utility>

namespace pgolf {
namespace {

using namespace std::string_view_literals;

struct Kind {
  std::string_view start;
  const char* what;
};

constexpr const char* zip = "a ZIP archive";
constexpr const char* torch_save = "a file of torch.save";

constexpr Kind kinds[] = {
    {"\x28\xb5\x2f\xfd"sv, "zstd-compressed"},
    {"\xfd\x37zXZ\0"sv, "xz-compressed (LZMA)"},
    {"\x5d\0\0"sv, "LZMA-compressed"},
    {"\x1f\x8b"sv, "gzip-compressed"},
    {"\x78\x01"sv, "zlib-compressed"},
    {"\x78\x9c"sv, "zlib-compressed"},
    {"\x78\xda"sv, "zlib-compressed"},
    {"BZh"sv, "bzip2-compressed"},
    {"\x04\x22\x4d\x18"sv, "LZ4-compressed"},
    {"7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive"},
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
    // 20240520, little-endian, kShardMagic in data/shard.h.
    {"\x88\xd8\x34\x01"sv, "a token shard"},
};

std::string_view chars(BytesView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// By names in the first record and in the directory at the end.
const char* zip_kind(BytesView archive) {
  constexpr size_t name_length = 26, name = 30;
  const std::string_view head = chars(archive.first(std::min<size_t>(archive.size(), 512)));
  const std::string_view tail = chars(archive.last(std::min<size_t>(archive.size(), 64 << 10)));
  if (tail.find("/constants.pkl") != tail.npos) return "a TorchScript archive (save its state_dict() instead)";
  if (head.size() > name && head.substr(name, static_cast<unsigned char>(head[name_length])).ends_with(".npy"))
    return "a NumPy .npz archive";
  return head.find("/data.pkl") != head.npos || tail.find("/data.pkl") != tail.npos ? torch_save : zip;
}

bool is_tar(std::string_view text) {
  constexpr size_t magic = 257;
  return text.size() > magic && text.substr(magic).starts_with("ustar");
}

/// PyTorch's, before it used ZIP archives: three pickles, the first of a magic number; before that, tar archives.
bool is_old_torch_save(std::string_view text) {
  constexpr std::string_view magic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
  constexpr size_t longest_prefix = 11;  // protocol and frame
  if (text.starts_with('\x80')) return text.substr(0, longest_prefix + magic.size()).find(magic) != text.npos;
  return is_tar(text) && (text.starts_with("sys_info\0"sv) || text.starts_with("pickle\0"sv) ||
                          text.starts_with("storages\0"sv) || text.starts_with("tensors\0"sv));
}

/// The first field of a SentencePiece model: a piece such as <unk>, and its score.
bool is_sentencepiece(std::string_view text) {
  constexpr size_t piece = 4;
  if (text.size() <= piece || text[0] != '\n' || text[2] != '\n' || text[piece] != '<') return false;
  const size_t end = piece + static_cast<unsigned char>(text[3]);
  return end < text.size() && text[end] == '\x15';
}

/// The length of a header below 4 GiB, and the header, JSON.
bool is_safetensors(std::string_view text) {
  return text.size() > 8 && text.substr(4, 4) == "\0\0\0\0"sv && text[8] == '{';
}

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
  const std::string_view text = chars(file.first(std::min<size_t>(file.size(), 512)));
  if (text.starts_with("PK\3\4")) return zip_kind(file);
  if (is_old_torch_save(text)) return "a torch.save file from before PyTorch 1.6 (save it again)";
  for (const Kind& kind : kinds) {
    if (text.starts_with(kind.start)) return kind.what;
  }
  if (is_tar(text)) return "a tar archive";
  if (is_sentencepiece(text)) return kSentencePieceKind;
  if (is_safetensors(text)) return "a safetensors file";
  if (const std::string encoding = wide_encoding(file); !encoding.empty()) return encoding + " text";
  const size_t start = text.find_first_not_of(" \t\r\n");
  const bool json = start != text.npos && (text[start] == '{' || text[start] == '[');
  const auto readable = [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t'; };
  if (!std::all_of(text.begin(), text.end(), readable)) return "";
  return json ? "JSON" : "a text file";
}

std::string unpacking_command(const std::string& kind) {
  constexpr std::pair<std::string_view, const char*> commands[] = {
      {"gzip", "gunzip"}, {"xz", "unxz"},     {"LZMA", "unlzma"},  {"zstd", "unzstd"},  {"bzip2", "bunzip2"},
      {"LZ4", "unlz4"},   {"a ZIP", "unzip"}, {"a 7-Zip", "7z x"}, {"a tar", "tar -xf"}};
  for (const auto& [start, command] : commands) {
    if (kind.starts_with(start)) return command;
  }
  return "";
}

std::string foreign_zip(BytesView archive) {
  const char* kind = zip_kind(archive);
  return kind == torch_save ? "" : kind;
}

std::string foreign_clause(BytesView file) {
  const std::string kind = describe_foreign(file);
  return kind.empty() ? "" : ": it is " + kind;
}

}  // namespace pgolf
