#include "pgolf/artifact/zip.h"

#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

static_assert(std::endian::native == std::endian::little, "zip fields are read and written in the host's byte order");

constexpr uint32_t local_signature = 0x04034b50, descriptor_signature = 0x08074b50, entry_signature = 0x02014b50;
constexpr uint32_t end_signature = 0x06054b50, end64_signature = 0x06064b50, locator64_signature = 0x07064b50;
constexpr size_t local_size = 30, entry_size = 46, end_size = 22, end64_size = 56, locator64_size = 20;
constexpr uint16_t flag_encrypted = 1, flag_descriptor = 1 << 3, flag_utf8 = 1 << 11;
constexpr uint16_t extra_zip64 = 0x0001;
constexpr size_t alignment = 64;

uint32_t crc32_of(BytesView bytes) {
  return static_cast<uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

struct Entry {
  uint64_t offset, data_end;
  size_t record;
  uint32_t crc32;
};

class DirectoryParser {
 public:
  DirectoryParser(BytesView archive, const std::string& name) : archive_(archive), name_(name) {}

  struct Directory {
    uint64_t offset, size, count;
  };

  [[noreturn]] void fail(const std::string& what) const { throw Error(ExitCode::bad_input, name_ + ": " + what); }

  /// Little-endian integer at an offset, which may lie anywhere.
  template <class T>
  T get(uint64_t offset) const {
    if (offset > archive_.size() || archive_.size() - offset < sizeof(T)) {
      fail(format("the zip archive is truncated: a field at byte %llu is beyond its end",
                  static_cast<unsigned long long>(offset)));
    }
    T value;
    std::memcpy(&value, archive_.data() + offset, sizeof value);
    return value;
  }

  BytesView slice(uint64_t offset, uint64_t size) const {
    if (offset > archive_.size() || archive_.size() - offset < size) fail("a part of the zip archive is beyond its end");
    return archive_.subspan(offset, size);
  }

  std::string_view chars(uint64_t offset, uint64_t size) const {
    const BytesView part = slice(offset, size);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

  Directory locate() const {
    const size_t end = find_end();
    Directory directory{get<uint32_t>(end + 16), get<uint32_t>(end + 12), get<uint16_t>(end + 10)};
    if (get<uint16_t>(end + 4) != 0 || get<uint16_t>(end + 6) != 0 || get<uint16_t>(end + 8) != directory.count) {
      fail("multi-part zip archives are not supported");
    }
    size_t directory_limit = end;
    if (end >= locator64_size && get<uint32_t>(end - locator64_size) == locator64_signature) {
      const uint64_t end64 = get<uint64_t>(end - locator64_size + 8);
      if (end64 > end - locator64_size || get<uint32_t>(end64) != end64_signature) fail("the zip64 end record is damaged");
      const Directory narrow = directory;
      directory = {get<uint64_t>(end64 + 48), get<uint64_t>(end64 + 40), get<uint64_t>(end64 + 32)};
      const auto agree = [](uint64_t narrow_field, uint64_t saturated, uint64_t wide) {
        return narrow_field == saturated || narrow_field == wide;
      };
      if (!agree(narrow.offset, 0xffffffff, directory.offset) || !agree(narrow.size, 0xffffffff, directory.size) ||
          !agree(narrow.count, 0xffff, directory.count)) {
        fail("the zip64 and the plain end record are inconsistent");
      }
      directory_limit = end64;
    }
    if (directory.offset > directory_limit || directory_limit - directory.offset < directory.size) {
      fail("the zip directory is beyond the end of the archive");
    }
    return directory;
  }

  /// Reads the directory entry at position and advances position past it.
  std::pair<ZipRecord, Entry> read_entry(uint64_t& position, uint64_t directory_offset) const {
    if (get<uint32_t>(position) != entry_signature) fail("the zip directory is damaged");
    const auto flags = get<uint16_t>(position + 8), method = get<uint16_t>(position + 10);
    const auto crc = get<uint32_t>(position + 16);
    uint64_t packed = get<uint32_t>(position + 20), size = get<uint32_t>(position + 24);
    const auto name_size = get<uint16_t>(position + 28), extra_size = get<uint16_t>(position + 30);
    const auto comment_size = get<uint16_t>(position + 32), disk = get<uint16_t>(position + 34);
    uint64_t local = get<uint32_t>(position + 42);
    const std::string record_name(chars(position + entry_size, name_size));
    const auto fail_here = [&](const char* what) { fail(format("record \"%s\" %s", printable(record_name).c_str(), what)); };
    read_zip64_fields(position + entry_size + name_size, extra_size, {&size, &packed, &local});
    position += entry_size + name_size + extra_size + comment_size;

    if ((flags & flag_encrypted) != 0) fail_here("is encrypted");
    if (method != 0 || packed != size) fail_here("is compressed; torch.save stores records uncompressed");
    if (disk != 0) fail_here("is in another part of the archive");
    if (get<uint32_t>(local) != local_signature || get<uint16_t>(local + 8) != method || get<uint16_t>(local + 26) != name_size ||
        chars(local + local_size, name_size) != record_name) {
      fail_here("has a header that is inconsistent with the zip directory");
    }
    const uint64_t data = local + local_size + name_size + get<uint16_t>(local + 28);
    if (data > directory_offset || directory_offset - data < size) fail_here("extends into the zip directory or beyond the file");
    const BytesView bytes = slice(data, size);
    return {{record_name, bytes}, {local, data + size, 0, crc}};
  }

 private:
  /// The end record, which a comment of known length may follow.
  size_t find_end() const {
    size_t surplus = 0;
    if (archive_.size() >= end_size) {
      const size_t last = archive_.size() - end_size, first = last > 0xffff ? last - 0xffff : 0;
      for (size_t at = last + 1; at-- > first;) {
        if (get<uint32_t>(at) != end_signature) continue;
        const size_t comment = get<uint16_t>(at + 20);
        if (comment == last - at) return at;
        if (comment < last - at && surplus == 0) surplus = last - at - comment;
      }
    }
    if (surplus > 0) fail(format("%zu bytes follow the end of the zip archive", surplus));
    fail("not a zip archive written by torch.save, or truncated");
  }

  /// The zip64 field holds, in this order, only the values that are saturated in the entry itself.
  void read_zip64_fields(uint64_t extra, uint64_t extra_size, std::initializer_list<uint64_t*> values) const {
    const uint64_t end = extra + extra_size;
    while (end - extra >= 4) {
      const auto id = get<uint16_t>(extra), size = get<uint16_t>(extra + 2);
      extra += 4;
      if (end - extra < size) fail("an extra field of the zip directory is damaged");
      if (id == extra_zip64) {
        uint64_t field = extra;
        for (uint64_t* value : values) {
          if (*value != 0xffffffff) continue;
          if (extra + size - field < 8) fail("a zip64 field of the zip directory is too short");
          *value = get<uint64_t>(field);
          field += 8;
        }
        return;
      }
      extra += size;
    }
  }

  BytesView archive_;
  const std::string& name_;
};

void put(Bytes& out, BytesView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

template <class... Fields>
void put_fields(Bytes& out, Fields... fields) {
  (put(out, std::as_bytes(std::span(&fields, 1))), ...);
}

// The mixing step of PyTorch's serialization id (c10's hash_combine).
uint64_t hash_combine(uint64_t seed, uint64_t value) {
  return seed ^ (value + 0x9e3779b9 + (seed << 6) + (seed >> 2));
}

}  // namespace

bool starts_like_zip(BytesView file) {
  return file.size() >= sizeof local_signature && std::memcmp(file.data(), &local_signature, sizeof local_signature) == 0;
}

ZipReader::ZipReader(BytesView archive, std::string name) {
  const DirectoryParser parser(archive, name);
  const DirectoryParser::Directory directory = parser.locate();
  const uint64_t end = directory.offset + directory.size;
  std::vector<Entry> entries;
  for (uint64_t position = directory.offset; position < end;) {
    auto [record, entry] = parser.read_entry(position, directory.offset);
    if (position > end) parser.fail("the zip directory is damaged");
    entry.record = records_.size();
    if (!index_.try_emplace(record.name, records_.size()).second) {
      parser.fail(format("duplicate record \"%s\"", printable(record.name).c_str()));
    }
    records_.push_back(std::move(record));
    entries.push_back(entry);
  }
  if (records_.size() != directory.count) parser.fail("the zip directory has a different number of records than declared");

  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.offset < b.offset; });
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].offset < entries[i - 1].data_end) {
      parser.fail(format("records \"%s\" and \"%s\" overlap", printable(records_[entries[i - 1].record].name).c_str(),
                         printable(records_[entries[i].record].name).c_str()));
    }
  }
  // Only now, because many overlapping records could share the same bytes.
  for (const Entry& entry : entries) {
    const ZipRecord& record = records_[entry.record];
    if (crc32_of(record.bytes) != entry.crc32)
      parser.fail(format("record \"%s\" is damaged: checksum mismatch", printable(record.name).c_str()));
  }
}

const ZipRecord* ZipReader::find(const std::string& record_name) const {
  const auto found = index_.find(record_name);
  return found == index_.end() ? nullptr : &records_[found->second];
}

TorchZipWriter::TorchZipWriter(std::string_view top_folder) : top_folder_(std::string(top_folder) + "/") {}

void TorchZipWriter::add(std::string_view record_name, BytesView bytes) {
  const std::string full_name = top_folder_ + std::string(record_name);
  const size_t header_end = out_.size() + local_size + full_name.size() + 4;
  const size_t padding = (alignment - header_end % alignment) % alignment;
  if (header_end + padding + bytes.size() > std::numeric_limits<uint32_t>::max() - 1024) {
    throw Error(ExitCode::bad_input, "torch.save archives of 4 GiB or more are not supported",
                "save a smaller model, or use the safetensors format");
  }
  const Written record{full_name, crc32_of(bytes), static_cast<uint32_t>(bytes.size()), static_cast<uint32_t>(out_.size())};
  const uint16_t flags = bytes.empty() ? flag_utf8 : flag_utf8 | flag_descriptor;

  // Signature, version needed, flags, method, time, date, CRC and both sizes (they follow the data), lengths of name and extra.
  put_fields(out_, local_signature, uint16_t{0}, flags, uint16_t{0}, uint16_t{0}, uint16_t{0}, uint32_t{0}, uint32_t{0},
             uint32_t{0}, static_cast<uint16_t>(full_name.size()), static_cast<uint16_t>(padding + 4));
  put(out_, as_bytes(full_name));
  put(out_, as_bytes("FB"));
  put_fields(out_, static_cast<uint16_t>(padding));
  out_.insert(out_.end(), padding, std::byte{'Z'});
  put(out_, bytes);
  if (!bytes.empty()) put_fields(out_, descriptor_signature, record.crc32, record.size, record.size);

  names_.emplace(record_name);
  if (!bytes.empty()) combined_crc32_ = hash_combine(combined_crc32_, record.crc32);
  written_.push_back(record);
}

Bytes TorchZipWriter::finish() {
  add("version", as_bytes("3\n"));
  // PyTorch mixes the hashes of the names in the iteration order of an std::unordered_set. The same container filled
  // in the same order gives the same id, as long as both are built with the same standard library (libstdc++).
  uint64_t names_hash = 0;
  for (const std::string& name : names_) names_hash = hash_combine(names_hash, std::hash<std::string>{}(name));
  add(".data/serialization_id", as_bytes(format("%020llu%020llu", static_cast<unsigned long long>(names_hash),
                                                static_cast<unsigned long long>(combined_crc32_))));

  const uint64_t directory_offset = out_.size();
  for (const Written& record : written_) {
    const uint16_t flags = record.size == 0 ? flag_utf8 : flag_utf8 | flag_descriptor;
    // Signature, version made by and needed, flags, method, time, date, CRC, packed and plain size, lengths of name,
    // extra and comment, disk, internal and external attributes, offset.
    put_fields(out_, entry_signature, uint16_t{0}, uint16_t{0}, flags, uint16_t{0}, uint16_t{0}, uint16_t{0}, record.crc32,
               record.size, record.size, static_cast<uint16_t>(record.name.size()), uint16_t{0}, uint16_t{0}, uint16_t{0},
               uint16_t{0}, uint32_t{0}, record.offset);
    put(out_, as_bytes(record.name));
  }
  const uint64_t end64 = out_.size(), directory_size = end64 - directory_offset, count = written_.size();
  // There is always a zip64 end record: signature, size of the rest, version made by (Unix, 3.0) and needed (4.5),
  // two disk numbers, count here and in total, size and offset of the directory.
  put_fields(out_, end64_signature, uint64_t{end64_size - 12}, uint16_t{0x031e}, uint16_t{45}, uint32_t{0}, uint32_t{0}, count,
             count, directory_size, directory_offset);
  put_fields(out_, locator64_signature, uint32_t{0}, end64, uint32_t{1});
  const auto narrow_count = static_cast<uint16_t>(std::min<uint64_t>(count, 0xffff));
  put_fields(out_, end_signature, uint16_t{0}, uint16_t{0}, narrow_count, narrow_count, static_cast<uint32_t>(directory_size),
             static_cast<uint32_t>(directory_offset), uint16_t{0});
  return std::move(out_);
}

}  // namespace pgolf
