// A server with a fake model, and its clients.
#pragma once

#include <httplib.h>

#include <atomic>
#include <future>
#include <optional>
#include <thread>

#include "pgolf/serve/server.h"
#include "support.h"

namespace pgolf::testing {

class ServerTest : public ::testing::Test {
 protected:
  void start() {
    server_.emplace(model_, tokenizer_, options_);
    std::promise<void> ready;
    thread_ = std::thread([this, &ready] { server_->run([&] { ready.set_value(); }, [] { return false; }); });
    ready.get_future().wait();
  }
  void finish() {
    if (!thread_.joinable()) return;  // never begun, or ended
    server_->stop();
    thread_.join();
  }
  void TearDown() override { finish(); }

  httplib::Client client() const {
    httplib::Client client("127.0.0.1", server_->port());
    client.set_read_timeout(60);
    return client;
  }
  struct Reply {
    int status = 0;
    json body;
    std::string text;
  };
  static Reply reply_of(const httplib::Result& result) {
    if (!result) return {.status = -1, .body = {}, .text = httplib::to_string(result.error())};
    return {.status = result->status, .body = json::parse(result->body, nullptr, false), .text = result->body};
  }
  Reply get(const std::string& path) const { return reply_of(client().Get(path)); }
  Reply post(const std::string& path, const std::string& body) const {
    return reply_of(client().Post(path, body, "application/json"));
  }
  Reply complete(const json& body) const { return post("/v1/completions", body.dump()); }
  /// The objects of a stream's events; the last one has to be [DONE].
  std::vector<json> stream(json body) const {
    body["stream"] = true;
    const auto result = client().Post("/v1/completions", body.dump(), "application/json");
    EXPECT_TRUE(result);
    EXPECT_EQ(result->get_header_value("Content-Type"), "text/event-stream");
    std::vector<std::string> events;
    for (size_t at = 0; at < result->body.size();) {
      const size_t end = result->body.find("\n\n", at);
      EXPECT_EQ(result->body.substr(at, 6), "data: ");
      events.push_back(result->body.substr(at + 6, end - at - 6));
      at = end + 2;
    }
    EXPECT_EQ(events.back(), "[DONE]");
    events.pop_back();
    std::vector<json> objects;
    for (const auto& event : events) objects.push_back(json::parse(event));
    return objects;
  }

  /// One slot, and a text of 4000 tokens at a millisecond each.
  void start_slowly() {
    model_.script.assign(4000, 9);
    model_.before_token = [this] {
      ++drawn_;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    options_.max_requests = 1;
    start();
  }
  /// The slot becomes free long before 4000 tokens are drawn.
  void expect_free_slot() const {
    while (complete({{"prompt", "a"}, {"max_tokens", 1}}).status == 503)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_LT(drawn_, 4000);
  }

  /// What follows "the".
  std::vector<int> script() const {
    auto ids = tokenizer_.encode("the river walks under the bridge");
    ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(tokenizer_.encode("the").size()));
    return ids;
  }

  Tokenizer tokenizer_{Dataset::get().tokenizer_path()};
  ScriptedModel model_{script()};
  ServerOptions options_{.port = 0, .model_name = "tiny"};
  std::atomic<int> drawn_ = 0;
  std::optional<Server> server_;
  std::thread thread_;
};

}  // namespace pgolf::testing
