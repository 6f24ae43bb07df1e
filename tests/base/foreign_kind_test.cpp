#include "pgolf/base/foreign_kind.h"

#include <gtest/gtest.h>

namespace pgolf {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

std::string kind_of(std::string_view content) {
  return describe_foreign(as_bytes(content));
}

/// The header of one file in a tar archive.
std::string tar(const std::string& name) {
  std::string header(512, '\0');
  header.replace(0, name.size(), name);
  header.replace(257, 5, "ustar");
  return header;
}

/// The start of a record of that name; then what is in the middle and in the directory.
std::string zip(const std::string& name, const std::string& rest = "") {
  return "PK\3\4" + std::string(22, '\0') + static_cast<char>(name.size()) + std::string(3, '\0') + name + rest;
}

TEST(ForeignKind, IsToldByTheFirstBytes) {
  constexpr std::pair<std::string_view, const char*> files[] = {
      {"\x93NUMPY\1\0v\0{'descr': '<f8'"sv, "a NumPy array"},
      {"version https://git-lfs.github.com/spec/v1\n"sv, "a Git LFS pointer to a file that was not downloaded"},
      {"<!doctype html>\n<html>"sv, "a web page"},
      {"GGUF\3\0\0\0"sv, "a GGUF model"},
      {"\x78\x9c\xab\xae\x05\0"sv, "zlib-compressed"},
      {"\x80\x04\x95\0\0\0\0\0\0\0\0}."sv, "a bare Python pickle"},
      {"\x88\xd8\x34\x01\x01\0\0\0"sv, "a token shard"},
      {"\x10\0\0\0\0\0\0\0{\"w\":{}}        "sv, "a safetensors file"},
      {"\n\x0e\n\5<unk>\x15\0\0\0\0\x18\2"sv, "a SentencePiece model"},
      {"{\"version\": \"1.0\"}"sv, "JSON"},
      {"one\ntwo\n"sv, "a text file"},
      {"\na\nb<c>\n"sv, "a text file"},
      {"\n\x0e\n\5<unk>"sv, ""},
      {"\x01\x02\x03\x04"sv, ""},
  };
  for (const auto& [content, kind] : files) EXPECT_EQ(kind_of(content), kind) << content;
}

TEST(ForeignKind, OldFilesOfTorchSave) {
  const char* kind = "a torch.save file from before PyTorch 1.6 (save it again)";
  const std::string magic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
  for (const std::string& start :
       {"\x80\x02"s, "\x80\x03"s, "\x80\x04\x95\x0d\0\0\0\0\0\0\0"s, "\x80\x05\x95\x0d\0\0\0\0\0\0\0"s})
    EXPECT_EQ(kind_of(start + magic), kind);
  for (const char* first : {"sys_info", "pickle", "storages", "tensors"}) EXPECT_EQ(kind_of(tar(first)), kind);
  EXPECT_EQ(kind_of(tar("model/weights")), "a tar archive");
  EXPECT_EQ(kind_of(tar("pickles")), "a tar archive");
}

TEST(ForeignKind, ZipArchivesAreToldByTheirRecords) {
  const std::string far(200'000, '\0');
  EXPECT_EQ(kind_of(zip("model/data.pkl", far)), "a file of torch.save");
  EXPECT_EQ(kind_of(zip("model/data/0", far + "model/data.pkl")), "a file of torch.save");
  EXPECT_EQ(kind_of(zip("model/data/0", "model/data.pkl" + far + "model/constants.pkl...")),
            "a TorchScript archive (save its state_dict() instead)");
  EXPECT_EQ(kind_of(zip("arr_0.npy", far)), "a NumPy .npz archive");
  EXPECT_EQ(kind_of(zip("word/document.xml", far)), "a ZIP archive");
  EXPECT_EQ(kind_of("PK\3\4"), "a ZIP archive");
  EXPECT_EQ(foreign_zip(as_bytes(zip("model/data.pkl", far))), "");
  EXPECT_EQ(foreign_zip(as_bytes(zip("x.npy"))), "a NumPy .npz archive");
}

TEST(ForeignKind, ClausesAreForMessages) {
  EXPECT_EQ(foreign_clause(as_bytes("GGUF")), ": it is a GGUF model");
  EXPECT_EQ(foreign_clause(as_bytes("\1\2\3")), "");
  EXPECT_EQ(foreign_clause({}), ": it is an empty file");
  EXPECT_EQ(unpacking_command("gzip-compressed"), "gunzip");
  EXPECT_EQ(unpacking_command("a ZIP archive"), "unzip");
  EXPECT_EQ(unpacking_command("a web page"), "");
}

}  // namespace
}  // namespace pgolf
