#include "pgolf/prepare/documents.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "pgolf/base/error.h"
#include "pgolf/base/foreign_kind.h"
#include "pgolf/base/format.h"
#include "pgolf/base/json_problem.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/prepare/folder_files.h"

namespace pgolf {
namespace fs = std::filesystem;
namespace {

const std::vector<std::string> kExtensions = {".txt", ".jsonl"};
constexpr size_t kMaxLineBytes = size_t{256} << 20;

bool has_extension(const fs::path& path, const std::vector<std::string>& extensions) {
  return std::find(extensions.begin(), extensions.end(), path.extension().string()) != extensions.end();
}

/// A file that is no text in UTF-8 as a whole, told by its first bytes.
void require_text(BytesView file, const fs::path& path) {
  const std::string encoding = wide_encoding(file);
  if (!encoding.empty()) {
    throw Error(ExitCode::bad_input, format("%s is %s text", path.c_str(), encoding.c_str()),
                format("convert it first: iconv -f %s -t utf-8", encoding.c_str()));
  }
  const std::string kind = describe_foreign(file);
  if (kind.starts_with("a Git LFS pointer"))
    throw Error(ExitCode::bad_input, format("%s is %s", path.c_str(), kind.c_str()), "download it with git lfs pull");
}

std::string advice_for(const std::string& kind) {
  const std::string command = unpacking_command(kind);
  return command.empty() ? "documents are .txt and .jsonl files" : "unpack it first: " + command;
}

/// For a file that is not UTF-8 in some place. If it were in others, it would not be of an encoding of one byte per character.
std::string encoding_advice(std::string_view file) {
  const auto beyond_ascii = [](char c) { return static_cast<unsigned char>(c) >= 0x80; };
  for (std::string_view rest = file; !rest.empty();) {
    const size_t valid = valid_utf8_bytes(rest);
    if (std::ranges::any_of(rest.substr(0, valid), beyond_ascii))
      return "other characters of the file are UTF-8: repair this place (iconv -c -f utf-8 -t utf-8 drops what is not)";
    rest.remove_prefix(std::min(valid + 1, rest.size()));
  }
  return "convert the file first; if it is Latin-1, with iconv -f latin1 -t utf-8";
}

void require_utf8(std::string_view text, const fs::path& path) {
  const size_t valid = valid_utf8_bytes(text);
  if (valid == text.size()) return;
  if (const std::string kind = describe_foreign(as_bytes(text)); !kind.empty())
    throw Error(ExitCode::bad_input, format("%s is %s", path.c_str(), kind.c_str()), advice_for(kind));
  throw Error(ExitCode::bad_input, format("%s: byte %zu is not valid UTF-8", path.c_str(), valid), encoding_advice(text));
}

void require_regular(const fs::path& input) {
  std::error_code error;
  const std::string kind = irregular_kind(input);
  if (!kind.empty())
    throw Error(ExitCode::bad_input, format("%s is %s, not a regular file", input.c_str(), kind.c_str()),
                "write the documents to a .txt or .jsonl file first");
  const fs::file_status status = fs::status(input, error);
  if (status.type() == fs::file_type::not_found) throw Error(ExitCode::bad_input, format("no such input: %s", input.c_str()));
  if (error) throw Error(ExitCode::bad_input, format("cannot read %s: %s", input.c_str(), error.message().c_str()));
}

}  // namespace

DocumentReader::DocumentReader(const std::vector<fs::path>& inputs) {
  std::error_code error;
  for (const auto& input : inputs) {
    if (fs::is_directory(input, error)) {
      const auto found = files_below(input, kExtensions);
      files_.insert(files_.end(), found.files.begin(), found.files.end());
      if (const std::string rest = found.left_out(); !rest.empty())
        log::info(format("left out of %s: %s", input.c_str(), rest.c_str()));
      continue;
    }
    require_regular(input);
    if (!has_extension(input, kExtensions)) {
      throw Error(ExitCode::bad_input, format("%s is neither .txt nor .jsonl", input.c_str()),
                  "documents are read from .txt files (one each), .jsonl files (one per line, in \"text\") and folders of these");
    }
    files_.push_back(input);
  }
  if (files_.empty()) {
    throw Error(ExitCode::bad_input, "the inputs contain no .txt or .jsonl file",
                "pass at least one, or a folder that contains some");
  }
  if (const std::string repeated = remove_repeated(files_); !repeated.empty()) log::warn(repeated);
  const auto empty = std::erase_if(
      files_, [&error](const fs::path& file) { return file.extension() == ".txt" && fs::file_size(file, error) == 0 && !error; });
  if (empty > 0) log::info(format("left out: %zu empty .txt %s", empty, empty == 1 ? "file" : "files"));
  for (const auto& file : files_) {
    const auto size = fs::file_size(file, error);
    if (!error) total_bytes_ += static_cast<int64_t>(size);
  }
}

bool DocumentReader::next(std::string& text) {
  while (true) {
    if (lines_) {
      if (next_line(text)) return true;
      lines_.reset();
    }
    if (next_file_ == files_.size()) return false;
    const fs::path& file = files_[next_file_++];
    if (file.extension() == ".jsonl") {
      lines_.emplace(file);
      require_text(lines_->bytes(), file);
      offset_ = 0;
      line_number_ = 0;
      continue;
    }
    text = read_text(file);
    require_text(as_bytes(text), file);
    require_utf8(text, file);
    bytes_read_ += static_cast<int64_t>(text.size());
    text.erase(0, skipped_mark(text, file));
    if (text.empty()) continue;
    return true;
  }
}

std::string DocumentReader::place() const {
  const std::string file = next_file_ == 0 ? "" : files_[next_file_ - 1].string();
  return lines_ ? format("%s:%lld", file.c_str(), static_cast<long long>(line_number_)) : file;
}

void DocumentReader::rewind() {
  next_file_ = 0;
  lines_.reset();
  bytes_read_ = 0;
}

size_t DocumentReader::skipped_mark(std::string_view text, const fs::path& file) {
  constexpr std::string_view mark = "\xef\xbb\xbf";
  if (!text.starts_with(mark)) return 0;
  if (!std::exchange(told_of_mark_, true))
    log::info(format("%s begins with a byte order mark, which is left out, here and in other files", file.c_str()));
  return mark.size();
}

bool DocumentReader::next_line(std::string& text) {
  const BytesView bytes = lines_->bytes();
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  while (offset_ < all.size()) {
    const size_t end = std::min(all.find('\n', offset_), all.size());
    std::string_view line = all.substr(offset_, end - offset_);
    if (offset_ == 0) line.remove_prefix(skipped_mark(line, lines_->path()));
    const size_t next_offset = std::min(end + 1, all.size());
    bytes_read_ += static_cast<int64_t>(next_offset - offset_);
    offset_ = next_offset;
    ++line_number_;
    if (trim(line).empty()) continue;
    const auto refuse = [&](const std::string& problem,
                            const std::string& hint = "each line must be one document, such as {\"text\": \"...\"}") {
      throw Error(ExitCode::bad_input,
                  format("%s:%lld: %s", lines_->path().c_str(), static_cast<long long>(line_number_), problem.c_str()), hint);
    };
    if (line.size() > kMaxLineBytes) refuse(format("the line has %zu bytes; the limit is %zu", line.size(), kMaxLineBytes));
    auto value = nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) {
      const std::string kind = line_number_ == 1 ? describe_foreign(bytes) : "";
      const bool foreign = !kind.empty() && kind != "JSON" && kind != "a text file";
      if (foreign) refuse("the file is " + kind, advice_for(kind));
      if (valid_utf8_bytes(line) < line.size()) refuse(json_problem(line), encoding_advice(all));
      refuse(json_problem(line));
    }
    const auto field = value.is_object() ? value.find("text") : value.end();
    if (field == value.end() || !field->is_string()) refuse("not an object with a string field \"text\"");
    text = std::move(field->get_ref<std::string&>());
    return true;
  }
  return false;
}

void announce_if_large(const DocumentReader& reader, size_t bytes) {
  constexpr size_t large = size_t{8} << 20;
  constexpr double memory_per_byte = 140, bytes_per_second = 1e6;
  if (bytes < large) return;
  const auto size = static_cast<double>(bytes);
  log::info(format("%s: a document of %s, which SentencePiece splits as a whole: about %.0f s, %s of memory",
                   reader.place().c_str(), human_bytes(size).c_str(), size / bytes_per_second,
                   human_bytes(size * memory_per_byte).c_str()));
}

}  // namespace pgolf
