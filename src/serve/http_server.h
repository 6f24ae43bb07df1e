// The HTTP library's server with what it lacks: requests that follow one another without a pause, clients that end only their
// side, and headers that leave open where a request ends.
#pragma once

#include <httplib.h>

#include <optional>

#include "pgolf/serve/api_error.h"

namespace pgolf {

/// Why no body can be read for these headers: RFC 9112, section 6. 411 for a body without a length, 413 for one of more than
/// max_body_bytes, 400 for lengths that are not one decimal number, or another transfer encoding than "chunked".
std::optional<ApiError> framing_problem(const httplib::Request& request, int64_t max_body_bytes);

class HttpServer : public httplib::Server {
 public:
  explicit HttpServer(int64_t max_body_bytes);

 private:
  bool process_and_close_socket(socket_t socket) override;
  bool ends_connection(const httplib::Request& request) const;

  int64_t max_body_bytes_;
};

}  // namespace pgolf
