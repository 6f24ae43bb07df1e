// The targets of the HTTP server.
#pragma once

#include "targets.h"

namespace pgolf::fuzz {

/// Bodies of all requests. A completion is computed, with a model that says always the same.
void read_request(BytesView input);
std::vector<Bytes> request_seeds();

/// What a client sends to a server on loopback before it closes its side.
void read_http(BytesView input);
std::vector<Bytes> http_seeds();

}  // namespace pgolf::fuzz
