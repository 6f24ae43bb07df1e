#include "pgolf/serve/server.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <semaphore>
#include <thread>

#include "answer.h"
#include "connection.h"
#include "http_server.h"
#include "page.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
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
/// What clients ignore before a response, and in a stream of events.
constexpr std::string_view kInterim = "HTTP/1.1 100 Continue\r\n\r\n", kComment = ":\n\n";
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
      : model(model), tokenizer(tokenizer), options(options), http(options.max_body_bytes), free_slots(options.max_requests) {
    http.set_tcp_nodelay(true);  // Nagle's algorithm would delay small responses
    http.set_read_timeout(std::chrono::seconds(20));
    http.new_task_queue = [threads = options.max_requests + kSpareThreads] {
      return new httplib::ThreadPool(static_cast<size_t>(threads));
    };
    http.set_error_handler([](const httplib::Request& request, httplib::Response& response) { explain(request, response); });
    http.set_expect_100_continue_handler([this](const httplib::Request& request, httplib::Response& response) {
      return refuse_unread(request, response) ? response.status : 100;
    });
    http.set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      using enum httplib::Server::HandlerResponse;
      return refuse_unread(request, response) ? Handled : Unhandled;
    });
    add_routes();
    bind_port();
  }

  void bind_port() {
    bool has_address = false;
    http.set_socket_options([&has_address](socket_t socket) {  // called below, before bind()
      has_address = true;
      const int yes = 1;  // the library's default, SO_REUSEPORT, would let two servers share a port
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
      errno = 0;
    });
    port = options.port == 0                               ? http.bind_to_any_port(options.host)
           : http.bind_to_port(options.host, options.port) ? options.port
                                                           : -1;
    const int error = errno;
    if (port > 0) return;
    const char* hint = "--host takes an address of this machine: 127.0.0.1 for itself only, 0.0.0.0 for all of its networks";
    if (has_address && error == EADDRINUSE) hint = "another program uses the port; --port 0 takes a free one";
    if (has_address && error == EACCES) hint = "ports below 1024 are reserved as a rule; choose a larger one, or --port 0";
    throw Error(ExitCode::unavailable,
                format("cannot listen on %s:%d: %s", printable(options.host).c_str(), options.port,
                       has_address ? std::strerror(error) : "the host has no address"),
                hint);
  }

  RequestLimits limits() const {
    return {.context = model.context(), .max_tokens = options.max_tokens, .max_choices = options.max_choices};
  }

  /// Returns the status.
  static int refuse(const httplib::Request& request, httplib::Response& response, const ApiError& error) {
    const std::string body = error_body(error.status, error.what(), error.param, error.code);
    response.status = error.status;
    if (error.status == 503) response.set_header("Retry-After", "1");
    response.set_content(body, kJson);
    log::err_or_drop(
        format("%s %s: %d %s", printable(request.method).c_str(), printable(request.path).c_str(), error.status, body.c_str()));
    return error.status;
  }

  /// A body for errors that did not reach a handler. What the library calls 500 here is a request that it could not read.
  static void explain(const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;
    const int status = response.status >= 500 ? 400 : response.status;
    refuse(request, response,
           {status, status == 415 ? "bodies of this encoding are not served; send JSON" : "the request cannot be read"});
  }

  /// Whether the headers are enough to refuse a request. Its body is not read.
  bool refuse_unread(const httplib::Request& request, httplib::Response& response) const {
    if (const auto problem = framing_problem(request, options.max_body_bytes)) return refuse(request, response, *problem) != 0;
    std::vector<std::string> methods;
    for (const auto& route : routes) {
      if (std::regex_match(request.path, route.path)) methods.insert(methods.end(), route.methods.begin(), route.methods.end());
    }
    if (std::ranges::count(methods, request.method) > 0) return false;
    if (request.method == "POST") Connection::current().close_after_answer();
    const std::string what = printable(request.method) + " " + printable(request.path);
    if (methods.empty()) return refuse(request, response, {404, "not found: " + what}) != 0;
    response.set_header("Allow", join(methods, ", "));
    return refuse(request, response, {405, "method not allowed: " + what}) != 0;
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
      refuse(request, response, e);
    } catch (const std::exception& e) {
      refuse(request, response, {500, e.what()});
    }
  }

  void get(const std::string& pattern, Handler handle) {
    routes.push_back({std::regex(pattern), {"GET", "HEAD"}});
    http.Get(pattern, [this, handle = std::move(handle)](const httplib::Request& request, httplib::Response& response) {
      answer(handle, request, response);
    });
  }

  using BodyHandler = std::function<void(const httplib::Request&, const std::string& body, httplib::Response&)>;
  /// Bodies are counted while they are read: the declared length is not what they decompress to.
  void post(const std::string& pattern, BodyHandler handle) {
    routes.push_back({std::regex(pattern), {"POST"}});
    http.Post(pattern, [this, handle = std::move(handle)](const httplib::Request& request, httplib::Response& response,
                                                          const httplib::ContentReader& reader) {
      std::string body;
      int64_t length = 0;
      const auto take = [&](const char* data, size_t size) {
        length += static_cast<int64_t>(size);
        if (length > options.max_body_bytes) return false;
        body.append(data, size);
        return true;
      };
      const bool form = request.is_multipart_form_data();
      const bool whole = form ? reader([](const httplib::MultipartFormData&) { return true; }, take) : reader(take);
      if (!whole) Connection::current().close_after_answer();
      const bool too_large = length > options.max_body_bytes;
      if (!whole && !too_large && response.status >= 400) return;  // the library says why; see explain()
      const auto handle_body = [&](const httplib::Request&, httplib::Response& out) {
        if (too_large)
          throw ApiError(413, format("the body is larger than %lld bytes", static_cast<long long>(options.max_body_bytes)));
        if (form) throw ApiError(415, "multipart/form-data is not served; send JSON");
        if (!whole) throw ApiError(400, "the body cannot be read: its length or encoding is not what the headers say");
        handle(request, body, out);
      };
      answer(handle_body, request, response);
    });
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

  /// Runs work on the model's thread, unless the client leaves before its turn. ask: see Connection::gone().
  template <typename Work>
  auto on_model_thread(const std::function<bool()>& ask, Work&& work) {
    if (stopping) throw ApiError(503, "the server is shutting down");
    try {
      return queue.call(std::forward<Work>(work), [&ask] { return Connection::current().gone(ask); });
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
    if (!answer->request().stream) {
      const auto ask = [&] {
        return request.version != "HTTP/1.0" && Connection::current().write(kInterim.data(), kInterim.size()) > 0;
      };
      while (!answer->done()) {
        if (Connection::current().gone(ask)) throw ApiError(499, "the client has gone");
        on_model_thread(ask, [&] { answer->step(); });
      }
      response.set_content(answer->body(), kJson);
      return;
    }
    const auto provide = [this, answer, slot](size_t, httplib::DataSink& sink) {
      const auto ask = [&] { return sink.write(kComment.data(), kComment.size()); };
      std::string events;
      try {
        if (!answer->done()) events = on_model_thread(ask, [&] { return answer->step(); });
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
    };
    if (request.version == "HTTP/1.0") {
      response.set_content_provider("text/event-stream", provide);  // up to the end of the connection
    } else {
      response.set_chunked_content_provider("text/event-stream", provide);
    }
  }

  LanguageModel& model;
  const Tokenizer& tokenizer;
  const ServerOptions options;
  const int64_t started = seconds_since_1970();
  struct Route {
    std::regex path;
    std::vector<std::string> methods;
  };
  std::vector<Route> routes;
  HttpServer http;
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
