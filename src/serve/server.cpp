#include "pgolf/serve/server.h"

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <semaphore>
#include <thread>

#include "answer.h"
#include "page.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
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

struct Server::Impl {
  Impl(LanguageModel& model, const Tokenizer& tokenizer, const ServerOptions& options)
      : model(model), tokenizer(tokenizer), options(options), free_slots(options.max_requests) {
    http.set_tcp_nodelay(true);  // small answers to small requests: Nagle's algorithm would hold each of them back
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
    if (response.status == 413)
      message = format("the body is larger than %lld bytes", static_cast<long long>(options.max_body_bytes));
    response.set_content(error_body(response.status, message), kJson);
  }

  using Handler = std::function<void(const httplib::Request&, httplib::Response&)>;
  /// handle with its exceptions turned into answers.
  static Handler guarded(Handler handle) {
    return [handle = std::move(handle)](const httplib::Request& request, httplib::Response& response) {
      const auto answer = [&](int status, const std::string& body) {
        response.status = status;
        if (status == 503) response.set_header("Retry-After", "1");
        response.set_content(body, kJson);
        log::info(format("%s %s: %d %s", request.method.c_str(), printable(request.path).c_str(), status, body.c_str()));
      };
      try {
        handle(request, response);
      } catch (const ApiError& e) {
        answer(e.status, error_body(e.status, e.what(), e.param, e.code));
      } catch (const std::exception& e) {
        answer(500, error_body(500, e.what()));
      }
    };
  }

  void add_routes() {
    const auto answer_json = [](httplib::Response& response, const ordered_json& body) {
      response.set_content(dump_json(body), kJson);
    };
    http.Get("/", [](const httplib::Request&, httplib::Response& response) {
      response.set_header("Content-Security-Policy", kPagePolicy);
      response.set_content(page_html(), "text/html; charset=utf-8");
    });
    http.Get("/health", [=](const httplib::Request&, httplib::Response& response) { answer_json(response, {{"status", "ok"}}); });
    http.Get("/v1/models", [=, this](const httplib::Request&, httplib::Response& response) {
      answer_json(response, {{"object", "list"}, {"data", ordered_json::array({model_object()})}});
    });
    http.Get("/v1/models/(.+)", guarded([=, this](const httplib::Request& request, httplib::Response& response) {
               if (request.matches[1] != options.model_name)
                 throw ApiError(404, "there is no such model, only \"" + options.model_name + "\"", "model", "model_not_found");
               answer_json(response, model_object());
             }));
    http.Get("/tokenizer_info", [=](const httplib::Request&, httplib::Response& response) {
      answer_json(response, {{"tokenizer_class", "SentencePiece"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}});
    });
    http.Post("/tokenize", guarded([=, this](const httplib::Request& request, httplib::Response& response) {
                const auto ids = parse_tokenize_request(request.body, tokenizer);
                answer_json(response, {{"tokens", ids}, {"count", ids.size()}, {"max_model_len", model.context()}});
              }));
    http.Post("/detokenize", guarded([=, this](const httplib::Request& request, httplib::Response& response) {
                answer_json(response, {{"prompt", tokenizer.decode(parse_detokenize_request(request.body, tokenizer))}});
              }));
    http.Post("/v1/completions",
              guarded([this](const httplib::Request& request, httplib::Response& response) { complete(request, response); }));
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

  void complete(const httplib::Request& request, httplib::Response& response) {
    auto slot = take_slot();
    auto answer = std::make_shared<Answer>(
        model, tokenizer, parse_completion_request(request.body, options.model_name, tokenizer, limits()),
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

  void stop() {
    if (!stopping.exchange(true)) http.stop();
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
  impl_->stop();
}

void Server::run(const std::function<void()>& on_ready, const std::function<bool()>& should_stop) {
  std::thread listener([this] {
    impl_->http.listen_after_bind();  // returns when all connections have ended
    impl_->turns.finish();
  });
  while (!impl_->http.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  on_ready();
  impl_->turns.run([&] {
    if (should_stop()) stop();
  });
  listener.join();
}

}  // namespace pgolf
