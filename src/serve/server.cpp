#include "pgolf/serve/server.h"

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <semaphore>
#include <thread>

#include "answer.h"
#include "connection.h"
#include "page.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/serve/completion.h"
#include "pgolf/serve/work_queue.h"

namespace pgolf {
namespace {

using nlohmann::ordered_json;

constexpr const char* kJson = "application/json";
/// The page loads nothing from elsewhere and must not be framed.
constexpr const char* kPagePolicy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Threads in addition to those of the completions: each keep-alive connection holds one.
constexpr int kSpareThreads = 64;

int64_t seconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

bool is_loopback(const std::string& host) {
  // No other names: 127.example.org can point anywhere.
  const bool address = host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos;
  return address || host == "localhost" || host == "::1" || host == "[::1]";
}

struct Server::Impl {
  Impl(LanguageModel& model, const Tokenizer& tokenizer, const ServerOptions& options)
      : model(model), tokenizer(tokenizer), options(options), free_slots(options.max_requests) {
    http.set_tcp_nodelay(true);                    // Nagle's algorithm would delay small responses
    http.set_socket_options([](socket_t socket) {  // the library's default, SO_REUSEPORT, would let two servers share a port
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
      throw Error(ExitCode::unavailable, format("cannot listen on %s:%d", printable(options.host).c_str(), options.port),
                  "is the port in use? --port 0 takes a free one");
    }
  }

  RequestLimits limits() const {
    return {.context = model.context(), .max_tokens = options.max_tokens, .max_choices = options.max_choices};
  }

  static void refuse(const httplib::Request& request, httplib::Response& response, int status, const std::string& body) {
    response.status = status;
    if (status == 503) response.set_header("Retry-After", "1");
    response.set_content(body, kJson);
    std::fprintf(stderr, "%s %s: %d %s\n", printable(request.method).c_str(), printable(request.path).c_str(), status,
                 body.c_str());
  }

  /// A body for errors that did not reach a handler. What the library calls 500 here is a request that it could not read.
  void explain(const httplib::Request& request, httplib::Response& response) const {
    if (!response.body.empty()) return;
    const int status = response.status >= 500 ? 400 : response.status;
    std::string message = "the request cannot be read";
    if (status == 404) message = "not found: " + printable(request.method) + " " + printable(request.path);
    if (status == 413) message = too_large();
    if (status == 415) message = "bodies of this type or encoding are not served; send JSON";
    refuse(request, response, status, error_body(status, message));
  }

  /// A page of another site, open in a browser on this machine, can send requests here. The browser then sends its origin or, if
  /// the site's host name resolves to this address, that name as the host.
  bool is_cross_site(const httplib::Request& request) const {
    const std::string host = request.get_header_value("Host"), origin = request.get_header_value("Origin");
    if (!origin.empty() && origin != "http://" + host) return true;
    const std::string name = host.substr(0, host.find(':', host.starts_with('[') ? host.find(']') : 0));
    return is_loopback(options.host) && !host.empty() && !is_loopback(name);
  }

  using Handler = std::function<void(const httplib::Request&, httplib::Response&)>;

  /// Turns exceptions of handle into error responses; refuses cross-site requests.
  void answer(const Handler& handle, const httplib::Request& request, httplib::Response& response) const {
    try {
      if (is_cross_site(request)) throw ApiError(403, "cross-site requests are refused");
      handle(request, response);
    } catch (const ApiError& e) {
      refuse(request, response, e.status, error_body(e.status, e.what(), e.param, e.code));
    } catch (const std::exception& e) {
      refuse(request, response, 500, error_body(500, e.what()));
    }
  }

  void get(const std::string& pattern, Handler handle) {
    http.Get(pattern, [this, handle = std::move(handle)](const httplib::Request& request, httplib::Response& response) {
      answer(handle, request, response);
    });
  }

  using BodyHandler = std::function<void(const httplib::Request&, const std::string& body, httplib::Response&)>;
  /// Bodies are always read to the end, since the rest would be parsed as the next request, and counted while reading: the
  /// library's own limit checks the declared length, not the bytes sent or what they decompress to.
  void post(const std::string& pattern, BodyHandler handle) {
    http.Post(pattern, [this, handle = std::move(handle)](const httplib::Request& request, httplib::Response& response,
                                                          const httplib::ContentReader& reader) {
      std::string body;
      int64_t length = 0;
      const auto take = [&](const char* data, size_t size) {
        length += static_cast<int64_t>(size);
        if (length <= options.max_body_bytes) body.append(data, size);
        return true;
      };
      const bool form = request.is_multipart_form_data();
      const bool whole = form ? reader([](const httplib::MultipartFormData&) { return true; }, take) : reader(take);
      if (!whole && response.status >= 400) return;  // the library says why; see explain()
      const auto handle_body = [&](const httplib::Request&, httplib::Response& out) {
        if (length > options.max_body_bytes) throw ApiError(413, too_large());
        if (form) throw ApiError(415, "multipart/form-data is not served; send JSON");
        if (!whole) throw ApiError(400, "the body cannot be read: its length or encoding is not what the headers say");
        handle(request, body, out);
      };
      answer(handle_body, request, response);
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
        throw ApiError(404, "no such model, only \"" + options.model_name + "\"", "model", "model_not_found");
      answer_json(response, model_object());
    });
    get("/tokenizer_info", [=, this](const httplib::Request&, httplib::Response& response) {
      const auto name = [this](int id) { return id < 0 ? ordered_json() : ordered_json(tokenizer.id_to_piece(id)); };
      answer_json(response, {{"tokenizer_class", "SentencePiece"},
                             {"bos_token", name(tokenizer.bos_id())},
                             {"eos_token", name(tokenizer.eos_id())}});
    });
    post("/tokenize", [=, this](const httplib::Request&, const std::string& body, httplib::Response& response) {
      const auto ids = parse_tokenize_request(body, tokenizer);
      answer_json(response, {{"tokens", ids}, {"count", ids.size()}, {"max_model_len", model.context()}});
    });
    post("/detokenize", [=, this](const httplib::Request&, const std::string& body, httplib::Response& response) {
      answer_json(response, {{"prompt", tokenizer.decode(parse_detokenize_request(body, tokenizer))}});
    });
    post("/v1/completions", [this](const httplib::Request& request, const std::string& body, httplib::Response& response) {
      complete(request, body, response);
    });
  }

  ordered_json model_object() const {
    return {{"id", options.model_name},
            {"object", "model"},
            {"created", started},
            {"owned_by", "local"},
            {"max_model_len", model.context()}};
  }

  /// Held while a completion is computed; released on destruction.
  std::shared_ptr<void> take_slot() {
    if (!free_slots.try_acquire()) throw ApiError(503, format("too many concurrent requests (limit %d)", options.max_requests));
    return {static_cast<void*>(nullptr), [this](void*) { free_slots.release(); }};
  }

  /// Runs work on the model's thread, unless the client leaves before its turn.
  template <typename Work>
  auto on_model_thread(const Connection& client, Work&& work) {
    if (stopping) throw ApiError(503, "the server is shutting down");
    try {
      return queue.call(std::forward<Work>(work), [&client] { return client.closed(); });
    } catch (const WorkQueue::Withdrawn&) {
      throw ApiError(499, "the client has gone");
    }
  }

  void complete(const httplib::Request& request, const std::string& body, httplib::Response& response) {
    // A request that is wrong is so at any time; 503 would make its client try again.
    auto parsed = parse_completion_request(body, options.model_name, tokenizer, limits());
    auto slot = take_slot();
    auto answer = std::make_shared<Answer>(model, tokenizer, std::move(parsed),
                                           format("cmpl-%llu", static_cast<unsigned long long>(++requests)), seconds_since_1970(),
                                           options.model_name);
    const Connection client(request.remote_addr, request.remote_port);
    if (!answer->request().stream) {
      while (!answer->done()) {
        if (client.closed()) throw ApiError(499, "the client has gone");
        on_model_thread(client, [&] { answer->step(); });
      }
      response.set_content(answer->body(), kJson);
      return;
    }
    response.set_chunked_content_provider("text/event-stream", [this, answer, slot, client](size_t, httplib::DataSink& sink) {
      std::string events;
      try {
        if (!answer->done()) events = on_model_thread(client, [&] { return answer->step(); });
        if (answer->done()) events += answer->end_of_stream();
      } catch (const ApiError& e) {
        events = "data: " + error_body(e.status, e.what(), e.param, e.code) + "\n\n";
        answer->give_up();
      } catch (const std::exception& e) {
        events = "data: " + error_body(500, e.what()) + "\n\n";
        answer->give_up();
      }
      if (!events.empty() && !sink.write(events.data(), events.size())) return false;  // client disconnected
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
  WorkQueue queue;
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
    impl_->queue.finish();
  });
  bool ready = false, stop_sent = false;
  impl_->queue.run([&] {
    if (!impl_->http.is_running()) return;
    if (!std::exchange(ready, true)) on_ready();
    if (should_stop()) stop();
    if (impl_->stopping && !std::exchange(stop_sent, true)) impl_->http.stop();
  });
  listener.join();
  // The library gives up at most errors of accept().
  if (!impl_->stopping) throw Error(ExitCode::unavailable, "no more connections can be accepted", "start the server again");
}

}  // namespace pgolf
