// Errors in the format of OpenAI's API.
#pragma once

#include <stdexcept>
#include <string>

namespace pgolf {

/// status: HTTP status. param: the field of the request, or empty. code: machine-readable, such as "context_length_exceeded", or
/// empty.
struct ApiError : std::runtime_error {
  ApiError(int status, const std::string& message, std::string param = {}, std::string code = {})
      : std::runtime_error(message), status(status), param(std::move(param)), code(std::move(code)) {}

  int status;
  std::string param, code;
};

/// {"error":{"message","type","param","code"}}
std::string error_body(int status, const std::string& message, const std::string& param = {}, const std::string& code = {});

}  // namespace pgolf
