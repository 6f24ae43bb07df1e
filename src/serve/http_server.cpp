#include "http_server.h"

#include <strings.h>

#include <charconv>

#include "connection.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

constexpr size_t kBytesPerByte = 8;  // of a body in the smallest chunks

bool needs_body(const std::string& method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

}  // namespace

std::optional<ApiError> framing_problem(const httplib::Request& request, int64_t max_body_bytes) {
  for (const auto& header : request.headers) {
    if (header.first.find_first_of(" \t") != std::string::npos) return ApiError(400, "a header has white space in its name");
  }
  const size_t encodings = request.get_header_value_count("Transfer-Encoding");
  const size_t lengths = request.get_header_value_count("Content-Length");
  if (encodings + lengths > 1) return ApiError(400, "the headers give more than one length: Content-Length, Transfer-Encoding");
  if (encodings > 0) {
    if (::strcasecmp(request.get_header_value("Transfer-Encoding").c_str(), "chunked") == 0) return std::nullopt;
    return ApiError(400, "Transfer-Encoding must be chunked");
  }
  if (lengths == 0) {
    if (needs_body(request.method)) return ApiError(411, "a body needs a Content-Length");
    return std::nullopt;
  }
  const std::string text = request.get_header_value("Content-Length");
  uint64_t length = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (end != text.data() + text.size() || error == std::errc::invalid_argument)
    return ApiError(400, "Content-Length must be a decimal number");
  if (error != std::errc() || length > static_cast<uint64_t>(max_body_bytes))
    return ApiError(413, format("the body is larger than %lld bytes", static_cast<long long>(max_body_bytes)));
  return std::nullopt;
}

HttpServer::HttpServer(int64_t max_body_bytes) : max_body_bytes_(max_body_bytes) {
  set_payload_max_length(static_cast<size_t>(max_body_bytes));
  set_post_routing_handler([](const httplib::Request&, httplib::Response& response) {
    if (!Connection::current().closing()) return;
    response.headers.erase("Keep-Alive");
    response.headers.erase("Connection");
    response.set_header("Connection", "close");
  });
}

/// Only bodies of POST are read, and the library is lax about chunks: what follows might not be a request.
bool HttpServer::ends_connection(const httplib::Request& request) const {
  return request.version == "HTTP/1.0" || ::strcasecmp(request.get_header_value("Connection").c_str(), "close") == 0 ||
         request.has_header("Transfer-Encoding") || (request.has_header("Content-Length") && request.method != "POST") ||
         framing_problem(request, max_body_bytes_).has_value();
}

bool HttpServer::process_and_close_socket(socket_t socket) {
  Connection connection(socket);
  const auto stopped = [this] { return svr_sock_ == INVALID_SOCKET; };
  for (size_t left = keep_alive_max_count_;
       left > 0 && connection.wait_for_request(static_cast<int>(keep_alive_timeout_sec_), stopped); --left) {
    bool library_closes = false;
    connection.begin_request();
    const bool answered =
        process_request(connection, /*close_connection=*/left == 1, library_closes, [&](httplib::Request& request) {
          request.ranges.clear();  // the library would cut a completion, too
          connection.understood(left == 1 || ends_connection(request), kBytesPerByte * static_cast<size_t>(max_body_bytes_));
        });
    if (!answered) return false;
    if (connection.closing()) {
      connection.linger();
      break;
    }
  }
  return true;
}

}  // namespace pgolf
