// An HTTP server for OpenAI's completions API, with a web page to try a model (docs/serving.md).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "pgolf/data/tokenizer.h"
#include "pgolf/serve/language_model.h"

namespace pgolf {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;  ///< 0 = any free port
  std::string model_name;
  int max_tokens = 4096;             ///< new tokens per text
  int max_choices = 256;             ///< texts per request
  int max_requests = 64;             ///< concurrent completions; further ones get a 503
  int64_t max_body_bytes = 4 << 20;  ///< of a request
};

/// Whether a server at this host is reachable from this machine only.
bool is_loopback(const std::string& host);

class Server {
 public:
  /// Binds the port; Error(unavailable) on failure. model and tokenizer must outlive the server.
  Server(LanguageModel& model, const Tokenizer& tokenizer, const ServerOptions& options);
  ~Server();

  int port() const;

  /// Serves until stop() or until should_stop, which is polled about ten times a second, returns true. The model runs on the
  /// calling thread only, one token at a time, alternating between requests. on_ready, which must not throw, is called when
  /// connections are accepted. Requests in progress at the end get a 503. On loopback, cross-site requests from a browser are
  /// rejected. Request errors are logged to standard error. Error(unavailable) if connections can no longer be accepted.
  void run(const std::function<void()>& on_ready, const std::function<bool()>& should_stop);
  void stop();  ///< from any thread

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pgolf
