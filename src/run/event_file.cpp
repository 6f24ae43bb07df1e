#include "pgolf/run/event_file.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"

namespace pgolf {
namespace {

/// A protocol buffers message being written (protobuf.dev/programming-guides/encoding).
class Message {
 public:
  void integer(int field, int64_t value) {
    tag(field, 0);
    varint(static_cast<uint64_t>(value));
  }
  void number(int field, double value) {
    tag(field, 1);
    little_endian(std::bit_cast<uint64_t>(value), 8);
  }
  void single(int field, double value) {
    tag(field, 5);
    little_endian(std::bit_cast<uint32_t>(static_cast<float>(value)), 4);
  }
  void bytes(int field, std::string_view value) {
    tag(field, 2);
    varint(value.size());
    text_ += value;
  }
  void message(int field, const Message& value) { bytes(field, value.text_); }
  void numbers(int field, const std::vector<double>& values) {
    Message packed;
    for (const double value : values) packed.little_endian(std::bit_cast<uint64_t>(value), 8);
    message(field, packed);
  }
  void little_endian(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) text_ += static_cast<char>(value >> (8 * i));
  }
  const std::string& text() const { return text_; }

 private:
  void tag(int field, unsigned wire_type) { varint(static_cast<unsigned>(field) << 3 | wire_type); }
  void varint(uint64_t value) {
    for (; value >= 128; value >>= 7) text_ += static_cast<char>(value | 128);
    text_ += static_cast<char>(value);
  }

  std::string text_;
};

int64_t microseconds_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

Message event_at(int64_t step) {
  Message event;
  event.number(1, static_cast<double>(microseconds_now()) * 1e-6);
  event.integer(2, step);
  return event;
}

Message value_with_tag(std::string_view tag) {
  Message value;
  value.bytes(1, tag);
  return value;
}

void set_summary(Message& event, const std::vector<Message>& values) {
  Message summary;
  for (const auto& value : values) summary.message(1, value);
  event.message(5, summary);
}

std::string framed(const std::string& data) {
  const auto masked = [](std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8U; };
  Message frame;
  frame.little_endian(data.size(), 8);
  frame.little_endian(masked(frame.text()), 4);
  const uint32_t checksum = masked(data);
  Message end;
  end.little_endian(checksum, 4);
  return frame.text() + data + end.text();
}

/// Files are read in the order of their names.
std::string new_name() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  const int64_t now = microseconds_now();
  return format("events.out.tfevents.%010lld.%06lld.%s.%d", static_cast<long long>(now / 1'000'000),
                static_cast<long long>(now % 1'000'000), host.data(), static_cast<int>(getpid()));
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? 0x82f63b78U : 0);
      made[i] = value;
    }
    return made;
  }();
  uint32_t crc = ~0U;
  for (const char byte : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(byte)) & 255];
  return ~crc;
}

EventFile::EventFile(const std::filesystem::path& folder, int64_t last_step)
    : path_(folder / new_name()), step_(std::max<int64_t>(last_step, 0)) {
  Message first;
  first.number(1, static_cast<double>(microseconds_now()) * 1e-6);
  first.bytes(3, "brain.Event:2");
  append(first.text());
  Message start = event_at(last_step + 1), session;
  session.integer(1, 1);  // START
  start.message(7, session);
  append(start.text());
}

void EventFile::scalars(int64_t step, const Scalars& scalars) {
  if (scalars.empty()) return;
  Message event = event_at(step);
  std::vector<Message> values;
  for (const auto& [tag, number] : scalars) {
    values.push_back(value_with_tag(tag));
    values.back().single(2, number);
  }
  set_summary(event, values);
  append(event.text());
}

void EventFile::text(int64_t step, std::string_view tag, std::string_view text) {
  Message plugin, metadata, dimension, shape, tensor;
  plugin.bytes(1, "text");
  metadata.message(1, plugin);
  dimension.integer(1, 1);
  shape.message(2, dimension);
  tensor.integer(1, 7);  // DT_STRING
  tensor.message(2, shape);
  tensor.bytes(8, text);
  Message value = value_with_tag(tag), event = event_at(step);
  value.message(9, metadata);
  value.message(8, tensor);
  set_summary(event, {value});
  append(event.text());
}

void EventFile::histogram(int64_t step, std::string_view tag, const Histogram& histogram) {
  Message stored;
  stored.number(1, histogram.min);
  stored.number(2, histogram.max);
  stored.number(3, static_cast<double>(histogram.count));
  stored.number(4, histogram.sum);
  stored.number(5, histogram.sum_squares);
  stored.numbers(6, histogram.limits);
  stored.numbers(7, histogram.counts);
  Message value = value_with_tag(tag), event = event_at(step);
  value.message(5, stored);
  set_summary(event, {value});
  append(event.text());
}

void EventFile::append(const std::string& event) {
  try {
    append_whole(path_, framed(event));
  } catch (const Error& error) {
    if (!failed_) log::warn(std::string(error.what()) + "; TensorBoard will not show what cannot be written");
    failed_ = true;
  }
}

}  // namespace pgolf
