// Option types: parsing text into values, and the canonical text of values.
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/layer_list.h"
#include "pgolf/config/options.h"
#include "pgolf/config/parse.h"

namespace pgolf {
namespace {

[[noreturn]] void refuse(const std::string& reason) {
  throw Error(ExitCode::usage, reason);
}

/// A number, but one that would become infinite or 0.
bool is_beyond_double(std::string_view text) {
  const std::string whole(trim(text));
  char* end = nullptr;
  errno = 0;
  std::strtod(whole.c_str(), &end);
  return errno == ERANGE && *end == 0;
}

template <typename Int>
Binding bind_integer(Int* field, Int low, Int high) {
  const bool bounded_above = high != std::numeric_limits<Int>::max();
  const std::string range = bounded_above ? std::to_string(low) + " to " + std::to_string(high) : ">= " + std::to_string(low);
  const std::string wanted = bounded_above ? "an integer from " + range : "an integer " + range;
  return {"integer", range, std::to_string(*field), [=](std::string_view text) {
            const auto value = parse_integer(text);
            // Also for 1e12, which is no integer but shows what is meant.
            const bool too_large = value ? *value > high : parse_number(text).value_or(0) >= static_cast<double>(high);
            if (too_large && !bounded_above)
              refuse("is too large: it must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
            if (!value || *value < low || *value > high) refuse("is not " + wanted);
            *field = static_cast<Int>(*value);
            return std::to_string(*field);
          }};
}

}  // namespace

bool Interval::contains(double value) const {
  return (low_open ? value > low : value >= low) && (high_open ? value < high : value <= high);
}

std::string Interval::text() const {
  const auto shown = [](double bound) { return format("%.10g", bound); };
  if (std::isinf(low) && std::isinf(high)) return {};
  if (std::isinf(high)) return (low_open ? "> " : ">= ") + shown(low);
  if (std::isinf(low)) return (high_open ? "< " : "<= ") + shown(high);
  return shown(low) + (low_open ? " < x" : " <= x") + (high_open ? " < " : " <= ") + shown(high);
}

namespace bind {

Binding integer(int* field, int low, int high) {
  return bind_integer(field, low, high);
}
Binding integer(int64_t* field, int64_t low, int64_t high) {
  return bind_integer(field, low, high);
}

Binding number(double* field, Interval interval) {
  return {"number", interval.text(), python_float(*field), [=](std::string_view text) {
            const auto value = parse_number(text);
            if (!value) refuse(is_beyond_double(text) ? "is beyond the range of double" : "is not a number");
            if (!interval.contains(*value)) refuse("is out of range; it must be " + interval.text());
            if (std::abs(*value) > std::numeric_limits<float>::max()) refuse("is beyond the range of float32");
            *field = *value;
            return python_float(*value);
          }};
}

Binding short_number(double* field, Interval interval) {
  const auto shortened = [](const std::string& text) { return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text; };
  Binding binding = number(field, interval);
  binding.default_text = shortened(binding.default_text);
  binding.assign = [assign = binding.assign, shortened](std::string_view text) { return shortened(assign(text)); };
  return binding;
}

Binding number_or_none(double* field, Interval interval) {
  const Binding plain = number(field, interval);
  const double unset = *field;
  return {"number or none", plain.range, "none", [=](std::string_view text) -> std::string {
            if (lower_case(trim(text)) != "none") return plain.assign(text);
            *field = unset;
            return "none";
          }};
}

Binding boolean(bool* field) {
  return {"boolean", "0|1", *field ? "1" : "0", [=](std::string_view text) -> std::string {
            const auto value = parse_boolean(text);
            if (!value) refuse("is not a boolean (1 or 0, true or false, on or off, yes or no)");
            *field = *value;
            return *value ? "1" : "0";
          }};
}

Binding text(std::string* field) {
  return {"text", "", *field, [=](std::string_view given) {
            if (valid_utf8_bytes(given) < given.size()) refuse("is not valid UTF-8");
            *field = std::string(given);
            return *field;
          }};
}

Binding list(std::vector<std::string>* field) {
  return {"list", "comma-separated", join(*field, ","), [=](std::string_view text) {
            field->clear();
            for (const std::string& part : split(text, ',')) {
              const std::string_view entry = trim(part);
              if (valid_utf8_bytes(entry) < entry.size()) refuse("is not valid UTF-8");
              if (!entry.empty()) field->emplace_back(entry);
            }
            return join(*field, ",");
          }};
}

Binding integers(std::vector<int>* field, int low, int high) {
  const std::string range = std::to_string(low) + " to " + std::to_string(high);
  const auto text_of = [](const std::vector<int>& values) {
    std::vector<std::string> texts;
    for (const int value : values) texts.push_back(std::to_string(value));
    return join(texts, ",");
  };
  return {"list", range + ", comma-separated", text_of(*field), [=](std::string_view text) {
            std::vector<std::string> entries;
            list(&entries).assign(text);
            std::vector<int> values;
            for (const std::string& entry : entries) {
              const auto value = parse_integer(entry);
              if (!value || *value < low || *value > high) refuse("is not a list of integers from " + range);
              values.push_back(static_cast<int>(*value));
            }
            *field = values;
            return text_of(values);
          }};
}

Binding layer_integers(std::vector<int>* field, const std::string& word, int high) {
  const auto text_of = [word](const std::vector<int>& values) {
    std::vector<std::string> entries;
    for (const int value : values) entries.push_back(value == 0 ? word : std::to_string(value));
    return layer_list_text(entries);
  };
  const std::string range = word + ", or an integer from 1 to " + std::to_string(high) + ", comma-separated";
  return {"list", range, text_of(*field), [=](std::string_view text) {
            const auto values = parse_layer_list(text, kMaxLayers, [&](std::string_view entry) {
              if (lower_case(entry) == word) return 0;
              const auto value = parse_integer(entry);
              if (!value || *value < 1 || *value > high)
                refuse("is not a list of values that are " + word + " or an integer from 1 to " + std::to_string(high));
              return static_cast<int>(*value);
            });
            *field = values;
            return text_of(values);
          }};
}

Binding choice_of(std::vector<std::string> names, size_t chosen, std::function<void(size_t)> store) {
  const std::string range = join(names, "|"), wanted = join(names, ", "), default_text = names[chosen];
  return {"choice", range, default_text, [=](std::string_view text) {
            const std::string word = lower_case(trim(text));
            for (size_t i = 0; i < names.size(); ++i) {
              if (names[i] != word) continue;
              store(i);
              return word;
            }
            refuse("is not one of " + wanted);
          }};
}

}  // namespace bind
}  // namespace pgolf
