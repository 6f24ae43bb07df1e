#include "pgolf/artifact/zip.h"

#include <gtest/gtest.h>

#include "support.h"

namespace pgolf {
namespace {

using artifact_test::damage_everywhere;
using artifact_test::expect_bad_input;
using artifact_test::to_bytes;

Bytes small_archive() {
  TorchZipWriter writer("top");
  writer.add("data.pkl", as_bytes("first record"));
  writer.add("data/0", Bytes(100, std::byte{7}));
  writer.add("data/1", {});
  return writer.finish();
}

template <class T>
void poke(Bytes& bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

size_t find_last(const Bytes& bytes, std::string_view pattern) {
  return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()).rfind(pattern);
}

TEST(Zip, RoundTrip) {
  const Bytes archive = small_archive();
  const ZipReader reader(archive, "x.pt");
  ASSERT_EQ(reader.records().size(), 5u);
  EXPECT_EQ(reader.records()[0].name, "top/data.pkl");
  EXPECT_EQ(reader.records()[3].name, "top/version");
  EXPECT_EQ(reader.records()[4].name, "top/.data/serialization_id");
  EXPECT_EQ(reader.find("top/data/0")->bytes.size(), 100u);
  EXPECT_TRUE(reader.find("top/data/1")->bytes.empty());
  EXPECT_EQ(reader.find("data/0"), nullptr);
  for (const ZipRecord& record : reader.records()) EXPECT_EQ((record.bytes.data() - archive.data()) % 64, 0) << record.name;
}

TEST(Zip, NotAnArchive) {
  expect_bad_input([] { ZipReader(to_bytes(""), "x.pt"); }, "x.pt: not a zip archive");
  expect_bad_input([] { ZipReader(to_bytes(std::string(1000, 'P')), "x.pt"); }, "not a zip archive");
  TorchZipWriter zip("archive");
  zip.add("data.pkl", as_bytes("content"));
  Bytes longer = zip.finish();
  longer.insert(longer.end(), 7, std::byte{0});
  expect_bad_input([&] { ZipReader(longer, "x.pt"); }, "x.pt: 7 bytes follow the end of the zip archive");
  const Bytes archive = small_archive();
  const Bytes cut(archive.begin(), archive.end() - 1);
  expect_bad_input([&] { ZipReader(cut, "x.pt"); }, "truncated");
}

TEST(Zip, WrongChecksumIsFound) {
  Bytes archive = small_archive();
  archive[find_last(archive, "first record")] = std::byte{'F'};
  expect_bad_input([&] { ZipReader(archive, "x.pt"); }, "record \"top/data.pkl\" is damaged: checksum mismatch");
}

TEST(Zip, SizesBeyondTheFileAllocateNothing) {
  Bytes archive = small_archive();
  const size_t entry = find_last(archive, "top/data/0") - 46;
  poke<uint32_t>(archive, entry + 20, 0xfffffff0);
  poke<uint32_t>(archive, entry + 24, 0xfffffff0);
  expect_bad_input([&] { ZipReader(archive, "x.pt"); }, "extends into the zip directory or beyond the file");
}

TEST(Zip, CompressedAndEncryptedRecordsAreRejected) {
  Bytes archive = small_archive();
  const size_t entry = find_last(archive, "top/data/0") - 46;
  poke<uint16_t>(archive, entry + 10, 8);
  expect_bad_input([&] { ZipReader(archive, "x.pt"); }, "is compressed");
  archive = small_archive();
  poke<uint16_t>(archive, entry + 8, 1);
  expect_bad_input([&] { ZipReader(archive, "x.pt"); }, "is encrypted");
}

TEST(Zip, OverlapAndDuplicatesAreRejected) {
  Bytes archive = small_archive();
  // The entry of data/1 (empty) becomes a copy of that of data/0, with its name, size, checksum and offset.
  const size_t first = find_last(archive, "top/data/0") - 46, second = find_last(archive, "top/data/1") - 46;
  std::copy_n(archive.begin() + static_cast<ptrdiff_t>(first), 46 + 10, archive.begin() + static_cast<ptrdiff_t>(second));
  expect_bad_input([&] { ZipReader(archive, "x.pt"); }, "duplicate record \"top/data/0\"");

  // A record within the bytes of another.
  TorchZipWriter inner_writer("top");
  inner_writer.add("data/1", as_bytes("inner"));
  const Bytes inner = inner_writer.finish();
  const size_t header_and_data = 30 + 10 + 4 + 20 + 5;
  TorchZipWriter writer("top");
  writer.add("data/0", BytesView(inner).first(header_and_data));
  writer.add("data/1", as_bytes("inner"));
  archive = writer.finish();
  EXPECT_NO_THROW(ZipReader(archive, "x.pt"));
  poke<uint32_t>(archive, find_last(archive, "top/data/1") - 46 + 42, 64);
  expect_bad_input([&] { ZipReader(archive, "x.pt"); }, "\"top/data/0\" and \"top/data/1\" overlap");
}

TEST(Zip, RecordCountMustAgree) {
  Bytes archive = small_archive();
  const size_t end = find_last(archive, "PK\5\6"), end64 = find_last(archive, "PK\6\6");
  poke<uint16_t>(archive, end + 8, 4);
  poke<uint16_t>(archive, end + 10, 4);
  expect_bad_input([&] { ZipReader(archive, "x.pt"); }, "inconsistent");
  poke<uint64_t>(archive, end64 + 32, 4);
  expect_bad_input([&] { ZipReader(archive, "x.pt"); }, "different number of records");
}

TEST(Zip, ReadsZip64Fields) {
  // The entry's size and offset move into a zip64 field, as writers do beyond 4 GiB.
  const Bytes narrow = small_archive();
  const size_t directory = find_last(narrow, "PK\6\6"), entry = find_last(narrow, "top/version") - 46,
               entry_end = entry + 46 + 11;
  const ZipReader reference(narrow, "x.pt");
  Bytes wide(narrow.begin(), narrow.begin() + static_cast<ptrdiff_t>(entry_end));
  uint32_t offset = 0;
  std::memcpy(&offset, narrow.data() + entry + 42, 4);
  poke<uint32_t>(wide, entry + 20, 0xffffffff);
  poke<uint32_t>(wide, entry + 24, 0xffffffff);
  poke<uint32_t>(wide, entry + 42, 0xffffffff);
  poke<uint16_t>(wide, entry + 30, 28);
  Bytes extra(28);
  poke<uint16_t>(extra, 0, 1);
  poke<uint16_t>(extra, 2, 24);
  poke<uint64_t>(extra, 4, 2);
  poke<uint64_t>(extra, 12, 2);
  poke<uint64_t>(extra, 20, offset);
  wide.insert(wide.end(), extra.begin(), extra.end());
  wide.insert(wide.end(), narrow.begin() + static_cast<ptrdiff_t>(entry_end), narrow.end());
  uint64_t size = 0;
  std::memcpy(&size, narrow.data() + directory + 40, 8);
  poke<uint64_t>(wide, directory + 28 + 40, size + 28);
  const size_t locator = find_last(wide, "PK\6\7"), end = find_last(wide, "PK\5\6");
  poke<uint64_t>(wide, locator + 8, directory + 28);
  poke<uint32_t>(wide, end + 12, static_cast<uint32_t>(size + 28));

  const ZipReader reader(wide, "x.pt");
  const BytesView version = reader.find("top/version")->bytes;
  EXPECT_EQ(Bytes(version.begin(), version.end()), to_bytes("3\n"));

  poke<uint64_t>(wide, entry_end + 20, ~uint64_t{0});
  expect_bad_input([&] { ZipReader(wide, "x.pt"); }, "truncated");
  poke<uint64_t>(wide, entry_end + 20, offset);
  poke<uint16_t>(wide, entry_end + 2, 16);
  expect_bad_input([&] { ZipReader(wide, "x.pt"); }, "zip64 field");
}

TEST(Zip, AcceptsAComment) {
  Bytes archive = small_archive();
  poke<uint16_t>(archive, archive.size() - 2, 5);
  const Bytes comment = to_bytes("hello");
  archive.insert(archive.end(), comment.begin(), comment.end());
  EXPECT_EQ(ZipReader(archive, "x.pt").records().size(), 5u);
}

TEST(Zip, DamageNeverCrashes) {
  damage_everywhere(small_archive(), [](BytesView bytes) { ZipReader(bytes, "x.pt"); });
}

}  // namespace
}  // namespace pgolf
