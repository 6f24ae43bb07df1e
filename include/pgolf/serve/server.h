// An HTTP server that speaks OpenAI's completions API, and a page to try a model on (docs/serving.md).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "pgolf/data/tokenizer.h"
#include "pgolf/serve/language_model.h"

namespace pgolf {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;  ///< 0 = a free one
  std::string model_name;
  int max_tokens = 4096;             ///< new ones of a text
  int max_choices = 256;             ///< texts in a request
  int max_requests = 64;             ///< completions at once; more are told to come back (503)
  int64_t max_body_bytes = 4 << 20;  ///< of a request
};

/// Whether only this machine can reach a server there.
bool is_loopback(const std::string& host);

class Server {
 public:
  /// Takes the port. Error(unavailable) if it cannot be had. model and tokenizer must outlive the server.
  Server(LanguageModel& model, const Tokenizer& tokenizer, const ServerOptions& options);
  ~Server();

  int port() const;

  /// Serves until stop() or until should_stop, which is asked about ten times a second, says so. All of the model's work is done
  /// on the calling thread, a token at a time, so that requests take turns. on_ready, which may not throw, is called when
  /// connections are accepted. Requests still at work at the end are answered by 503. On loopback, requests that a browser sends
  /// for another site's page are refused. Errors of requests are told on standard error.
  void run(const std::function<void()>& on_ready, const std::function<bool()>& should_stop);
  void stop();  ///< from any thread

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pgolf
