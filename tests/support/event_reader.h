// Reads event files by the definition of their format, for tests of what was written.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/base/files.h"
#include "pgolf/run/event_file.h"

namespace pgolf::testing {

inline uint64_t little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

/// A message of protocol buffers: by field, the bytes of its values. A varint is stored as 8 bytes.
class ReadMessage {
 public:
  explicit ReadMessage(std::string_view rest) {
    const auto take = [&rest](size_t size) {
      EXPECT_LE(size, rest.size());
      const std::string_view taken = rest.substr(0, size);
      rest.remove_prefix(taken.size());
      return taken;
    };
    const auto varint = [&] {
      uint64_t value = 0;
      for (int shift = 0;; shift += 7) {
        const auto byte = static_cast<unsigned char>(take(1).at(0));
        value |= uint64_t{byte & 127U} << shift;
        if (byte < 128) return value;
      }
    };
    while (!rest.empty()) {
      const uint64_t tag = varint();
      std::string& value = fields_[tag >> 3].emplace_back();
      if ((tag & 7) == 0) {
        const uint64_t number = varint();
        for (int i = 0; i < 8; ++i) value += static_cast<char>(number >> (8 * i));
      } else {
        value = take((tag & 7) == 2 ? varint() : (tag & 7) == 1 ? 8 : 4);
      }
    }
  }

  const std::vector<std::string>& all(uint64_t field) { return fields_[field]; }
  std::string bytes(uint64_t field) { return fields_[field].empty() ? "" : fields_[field][0]; }
  ReadMessage message(uint64_t field) { return ReadMessage(bytes(field)); }
  int64_t integer(uint64_t field) { return static_cast<int64_t>(little_endian(bytes(field))); }
  double number(uint64_t field) { return std::bit_cast<double>(little_endian(bytes(field))); }
  float single(uint64_t field) { return std::bit_cast<float>(static_cast<uint32_t>(little_endian(bytes(field)))); }

 private:
  std::map<uint64_t, std::vector<std::string>> fields_;
};

/// The events of a file, whose checksums must be right.
inline std::vector<ReadMessage> read_events(const std::filesystem::path& path) {
  const auto checked = [](std::string_view bytes, std::string_view stored) {
    const uint32_t crc = crc32c(bytes);
    EXPECT_EQ(((crc >> 15) | (crc << 17)) + 0xa282ead8U, static_cast<uint32_t>(little_endian(stored)));
  };
  const std::string all = read_text(path);
  std::vector<ReadMessage> events;
  for (std::string_view rest = all; !rest.empty();) {
    const auto size = static_cast<size_t>(little_endian(rest.substr(0, 8)));
    checked(rest.substr(0, 8), rest.substr(8, 4));
    checked(rest.substr(12, size), rest.substr(12 + size, 4));
    events.emplace_back(rest.substr(12, size));
    rest.remove_prefix(16 + size);
  }
  return events;
}

/// step, tag → value of all scalars.
inline std::map<std::pair<int64_t, std::string>, float> read_scalars(const std::filesystem::path& path) {
  std::map<std::pair<int64_t, std::string>, float> found;
  for (auto& event : read_events(path)) {
    ReadMessage summary = event.message(5);
    for (const auto& bytes : summary.all(1)) {
      ReadMessage value(bytes);
      if (!value.all(2).empty()) found[{event.integer(2), value.bytes(1)}] = value.single(2);
    }
  }
  return found;
}

}  // namespace pgolf::testing
