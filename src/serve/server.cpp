#include "pgolf/serve/server.h"

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <semaphore>
#include <thread>

#include "answer.h"
#include "page.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/serve/completion.h"
#include "pgolf/serve/turns.h"

namespace pgolf {
namespace {

using nlohmann::ordered_json;

constexpr const char* kJson = "application/json";
/// The page has no other sources than itself, and shows nothing in a frame.
constexpr const char* kPagePolicy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Threads beside those of the completions: a connection that is kept open holds one.
constexpr int kSpareThreads = 64;

int64_t seconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

bool is_loopback(const std::string& host) {
  // Of names only this one: 127.example.org is anybody's.
  const bool address = host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos;
  return address || host == "localhost" || host == "::1" || host == "[::1]";
}

struct Server::Impl {
  Impl(LanguageModel& model, const Tokenizer& tokenizer, const ServerOptions& options)
      : model(model), tokenizer(tokenizer), options(options), free_slots(options.max_requests) {
    http.set_tcp_nodelay(true);  // small answers to small requests: Nagle's algorithm would hold each of them back
    http.set_socket_options([](socket_t socket) {  // its default, SO_REUSEPORT, lets two servers share a port
      const int yes = 1;
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    http.set_payload_max_length(static_cast<size_t>(options.max_body_bytes));
    http.set_read_timeout(std::chrono::seconds(20));
    http.new_task_queue = [threads = options.max_requests + kSpareThreads] {
      return new httplib::ThreadPool(static_cast<size_t>(threads));
    };
    http.set_error_handler([this](const httplib::Request& request, httplib::Response& response) { explain(request, response); });
    add_routes();
    port = options.port == 0                               ? http.bind_to_any_port(options.host)
           : http.bind_to_port(options.host, options.port) ? options.port
                                                           : -1;
    if (port <= 0) {
      throw Error(ExitCode::unavailable, format("cannot listen at %s:%d", printable(options.host).c_str(), options.port),
                  "is another server there? --port 0 takes a free port");
    }
  }

  RequestLimits limits() const {
    return {.context = model.context(), .max_tokens = options.max_tokens, .max_choices = options.max_choices};
  }

  /// A body for errors that never reached a handler: no such address, a body that is too large.
  void explain(const httplib::Request& request, httplib::Response& response) const {
    if (!response.body.empty()) return;
    std::string message = "the request cannot be answered";
    if (response.status == 404) message = "there is no " + request.method + " " + printable(request.path);
    if (response.status == 413) message = too_large();
    response.set_content(error_body(response.status, message), kJson);
  }

  /// A page of another site, open in a browser on this machine, can send requests here. Browsers name its origin, or, if a name
  /// of its own leads to this address, that name as the host.
  bool is_foreign(const httplib::Request& request) const {
    const std::string host = request.get_header_value("Host"), origin = request.get_header_value("Origin");
    if (!origin.empty() && origin != "http://" + host) return true;
    const std::string name = host.substr(0, host.find(':', host.starts_with('[') ? host.find(']') : 0));
    return is_loopback(options.host) && !host.empty() && !is_loopback(name);
  }

  using Handler = std::function<void(const httplib::Request&, httplib::Response&)>;

  /// handle's exceptions become answers; requests of other sites' pages are refused.
  void answer(const Handler& handle, const httplib::Request& request, httplib::Response& response) const {
    const auto refuse = [&](int status, const std::string& body) {
      response.status = status;
      if (status == 503) response.set_header("Retry-After", "1");
      response.set_content(body, kJson);
      std::fprintf(stderr, "%s %s: %d %s\n", request.method.c_str(), printable(request.path).c_str(), status, body.c_str());
    };
    try {
      if (is_foreign(request)) throw ApiError(403, "requests of other sites' pages are not answered");
      handle(request, response);
    } catch (const ApiError& e) {
      refuse(e.status, error_body(e.status, e.what(), e.param, e.code));
    } catch (const std::exception& e) {
      refuse(500, error_body(500, e.what()));
    }
  }

  void get(const std::string& pattern, Handler handle) {
    http.Get(pattern, [this, handle = std::move(handle)](const httplib::Request& request, httplib::Response& response) {
      answer(handle, request, response);
    });
  }

  using BodyHandler = std::function<void(const std::string& body, httplib::Response&)>;
  /// Bodies are read to their end in any case, since what is left would be taken for the next request, and counted as they come:
  /// the library's own limit looks at the length that the client gives, not at what it sends or what that unpacks to.
  void post(const std::string& pattern, BodyHandler handle) {
    http.Post(pattern, [this, handle = std::move(handle)](const httplib::Request& request, httplib::Response& response,
                                                          const httplib::ContentReader& reader) {
      std::string body;
      int64_t length = 0;
      const bool whole = reader([&](const char* data, size_t size) {
        length += static_cast<int64_t>(size);
        if (length <= options.max_body_bytes) body.append(data, size);
        return true;
      });
      const auto handle_body = [&](const httplib::Request&, httplib::Response& out) {
        if (length > options.max_body_bytes) throw ApiError(413, too_large());
        handle(body, out);
      };
      if (whole) answer(handle_body, request, response);
    });
  }

  std::string too_large() const {
    return format("the body is larger than %lld bytes", static_cast<long long>(options.max_body_bytes));
  }

  void add_routes() {
    const auto answer_json = [](httplib::Response& response, const ordered_json& body) {
      response.set_content(dump_json(body), kJson);
    };
    get("/", [](const httplib::Request&, httplib::Response& response) {
      response.set_header("Content-Security-Policy", kPagePolicy);
      response.set_content(page_html(), "text/html; charset=utf-8");
    });
    get("/health", [=](const httplib::Request&, httplib::Response& response) { answer_json(response, {{"status", "ok"}}); });
    get("/v1/models", [=, this](const httplib::Request&, httplib::Response& response) {
      answer_json(response, {{"object", "list"}, {"data", ordered_json::array({model_object()})}});
    });
    get("/v1/models/(.+)", [=, this](const httplib::Request& request, httplib::Response& response) {
      if (request.matches[1] != options.model_name)
        throw ApiError(404, "there is no such model, only \"" + options.model_name + "\"", "model", "model_not_found");
      answer_json(response, model_object());
    });
    get("/tokenizer_info", [=](const httplib::Request&, httplib::Response& response) {
      answer_json(response, {{"tokenizer_class", "SentencePiece"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}});
    });
    post("/tokenize", [=, this](const std::string& body, httplib::Response& response) {
      const auto ids = parse_tokenize_request(body, tokenizer);
      answer_json(response, {{"tokens", ids}, {"count", ids.size()}, {"max_model_len", model.context()}});
    });
    post("/detokenize", [=, this](const std::string& body, httplib::Response& response) {
      answer_json(response, {{"prompt", tokenizer.decode(parse_detokenize_request(body, tokenizer))}});
    });
    post("/v1/completions", [this](const std::string& body, httplib::Response& response) { complete(body, response); });
  }

  ordered_json model_object() const {
    return {{"id", options.model_name},
            {"object", "model"},
            {"created", started},
            {"owned_by", "local"},
            {"max_model_len", model.context()}};
  }

  /// A completion that is being computed counts until this is gone.
  std::shared_ptr<void> take_slot() {
    if (!free_slots.try_acquire()) throw ApiError(503, format("%d requests are at work already", options.max_requests));
    return {static_cast<void*>(nullptr), [this](void*) { free_slots.release(); }};
  }

  /// Work on the model, in turn.
  template <typename Work>
  auto in_turn(Work&& work) {
    if (stopping) throw ApiError(503, "the server is shutting down");
    return turns.take(std::forward<Work>(work));
  }

  void complete(const std::string& body, httplib::Response& response) {
    auto slot = take_slot();
    auto answer = std::make_shared<Answer>(
        model, tokenizer, parse_completion_request(body, options.model_name, tokenizer, limits()),
        format("cmpl-%llu", static_cast<unsigned long long>(++requests)), seconds_since_1970(), options.model_name);
    if (!answer->request().stream) {
      while (!answer->done()) in_turn([&] { answer->step(); });
      response.set_content(answer->body(), kJson);
      return;
    }
    response.set_chunked_content_provider("text/event-stream", [this, answer, slot](size_t, httplib::DataSink& sink) {
      std::string events;
      try {
        if (!answer->done()) events = in_turn([&] { return answer->step(); });
        if (answer->done()) events += answer->end_of_stream();
      } catch (const ApiError& e) {
        events = "data: " + error_body(e.status, e.what(), e.param, e.code) + "\n\n";
        answer->give_up();
      } catch (const std::exception& e) {
        events = "data: " + error_body(500, e.what()) + "\n\n";
        answer->give_up();
      }
      if (!events.empty() && !sink.write(events.data(), events.size())) return false;  // the client has left
      if (answer->done()) sink.done();
      return true;
    });
  }

  LanguageModel& model;
  const Tokenizer& tokenizer;
  const ServerOptions options;
  const int64_t started = seconds_since_1970();
  httplib::Server http;
  int port = 0;
  Turns turns;
  std::counting_semaphore<> free_slots;
  std::atomic<bool> stopping = false;
  std::atomic<uint64_t> requests = 0;
};

Server::Server(LanguageModel& model, const Tokenizer& tokenizer, const ServerOptions& options)
    : impl_(std::make_unique<Impl>(model, tokenizer, options)) {}

Server::~Server() = default;

int Server::port() const {
  return impl_->port;
}

void Server::stop() {
  impl_->stopping = true;
}

void Server::run(const std::function<void()>& on_ready, const std::function<bool()>& should_stop) {
  std::thread listener([this] {
    impl_->http.listen_after_bind();  // returns when all connections have ended
    impl_->turns.finish();
  });
  bool ready = false, told = false;
  impl_->turns.run([&] {
    if (!impl_->http.is_running()) return;
    if (!std::exchange(ready, true)) on_ready();
    if (should_stop()) stop();
    if (impl_->stopping && !std::exchange(told, true)) impl_->http.stop();
  });
  listener.join();
}

}  // namespace pgolf
