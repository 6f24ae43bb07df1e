#include "server_fixture.h"

namespace pgolf::testing {
namespace {

TEST_F(ServerTest, DescribesItself) {
  start();
  EXPECT_EQ(get("/health").body, json::parse(R"({"status":"ok"})"));
  const json model = get("/v1/models").body["data"][0];
  EXPECT_EQ(model["id"], "tiny");
  EXPECT_EQ(model["max_model_len"], 64);
  EXPECT_EQ(get("/v1/models/tiny").body, model);
  EXPECT_EQ(get("/v1/models/other").status, 404);
  EXPECT_EQ(get("/tokenizer_info").body["bos_token"], "<s>");
  EXPECT_EQ(get("/tokenizer_info").body["eos_token"], "</s>");
  EXPECT_NE(get("/").text.find("<!DOCTYPE html>"), std::string::npos);
}

TEST_F(ServerTest, TokenizesBothWays) {
  start();
  const auto ids = tokenizer_.encode("the river");
  const json body = post("/tokenize", R"({"prompt":"the river","add_special_tokens":false})").body;
  EXPECT_EQ(body["tokens"], ids);
  EXPECT_EQ(body["count"], ids.size());
  EXPECT_EQ(body["max_model_len"], 64);
  EXPECT_EQ(post("/detokenize", json{{"tokens", ids}}.dump()).body["prompt"], "the river");
}

TEST_F(ServerTest, Completes) {
  start();
  const Reply reply = complete({{"prompt", "the"}, {"max_tokens", 50}, {"seed", 4}});
  ASSERT_EQ(reply.status, 200) << reply.text;
  EXPECT_EQ(reply.body["object"], "text_completion");
  EXPECT_EQ(reply.body["model"], "tiny");
  const json& choice = reply.body["choices"][0];
  EXPECT_EQ(choice["text"], " river walks under the bridge");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["index"], 0);
  EXPECT_TRUE(choice["logprobs"].is_null());
  const auto drawn = static_cast<int>(model_.script.size()) + 1;  // and the end
  EXPECT_EQ(reply.body["usage"], json({{"prompt_tokens", tokenizer_.encode("the").size()},
                                       {"completion_tokens", drawn},
                                       {"total_tokens", tokenizer_.encode("the").size() + static_cast<size_t>(drawn)}}));
  EXPECT_EQ(model_.seeds, std::vector<int64_t>{4});
}

TEST_F(ServerTest, ScoresPrompts) {
  start();
  // As lm-evaluation-harness asks: one more token than the prompt has.
  const json body{
      {"prompt", json::parse("[[9,10,11],[9,12]]")}, {"max_tokens", 1}, {"logprobs", 1}, {"echo", true}, {"temperature", 0}};
  const Reply reply = complete(body);
  ASSERT_EQ(reply.status, 200) << reply.text;
  ASSERT_EQ(reply.body["choices"].size(), 2u);
  EXPECT_EQ(reply.body["choices"][0]["logprobs"]["token_logprobs"], json::parse("[null,-2.0,-3.0,-0.5]"));
  EXPECT_EQ(reply.body["choices"][1]["logprobs"]["token_logprobs"], json::parse("[null,-2.0,-0.5]"));
  const json& logprobs = reply.body["choices"][0]["logprobs"];
  for (const char* name : {"tokens", "top_logprobs", "text_offset"}) EXPECT_EQ(logprobs[name].size(), 4u) << name;
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  const json& top = logprobs["top_logprobs"][1];
  EXPECT_EQ(top[logprobs["tokens"][1].get<std::string>()], -2.0);
  EXPECT_EQ(top.size(), 2u);
  EXPECT_EQ(reply.body["usage"]["prompt_tokens"], 5);
  EXPECT_EQ(reply.body["usage"]["completion_tokens"], 2);
}

TEST_F(ServerTest, SeveralTextsOfAPromptHaveTheirOwnSeeds) {
  start();
  const Reply reply = complete({{"prompt", json::parse(R"(["a","the"])")}, {"n", 2}, {"seed", 7}, {"max_tokens", 1}});
  ASSERT_EQ(reply.status, 200) << reply.text;
  EXPECT_EQ(model_.seeds, (std::vector<int64_t>{7, 8, 7, 8}));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(reply.body["choices"][static_cast<size_t>(i)]["index"], i);
}

TEST_F(ServerTest, StreamsTheSame) {
  start();
  const json body{{"prompt", "the"},
                  {"max_tokens", 50},
                  {"logprobs", 2},
                  {"echo", true},
                  {"stop", "the bridge"},
                  {"seed", 1},
                  {"stream_options", {{"include_usage", true}}}};
  const Reply whole = complete(body);
  const auto events = stream(body);
  std::string text;
  json tokens = json::array(), finish;
  for (const auto& event : events) {
    if (event["choices"].empty()) continue;
    const json& choice = event["choices"][0];
    text += choice["text"].get<std::string>();
    if (!choice["logprobs"].is_null()) {
      for (const auto& token : choice["logprobs"]["tokens"]) tokens.push_back(token);
    }
    if (!choice["finish_reason"].is_null()) finish = choice["finish_reason"];
  }
  EXPECT_GT(events.size(), 4u);
  EXPECT_EQ(text, whole.body["choices"][0]["text"]);
  EXPECT_EQ(text, "the river walks under ");
  EXPECT_EQ(tokens, whole.body["choices"][0]["logprobs"]["tokens"]);
  EXPECT_EQ(finish, "stop");
  EXPECT_EQ(events.back()["usage"], whole.body["usage"]);
}

TEST_F(ServerTest, ErrorsHaveBodies) {
  options_.max_body_bytes = 2000;
  start();
  const auto expect_error = [](const Reply& reply, int status) {
    EXPECT_EQ(reply.status, status) << reply.text;
    ASSERT_TRUE(reply.body.is_object()) << reply.text;
    EXPECT_FALSE(reply.body["error"]["message"].get<std::string>().empty());
    EXPECT_TRUE(reply.body["error"].contains("code"));
  };
  expect_error(get("/v1/nothing"), 404);
  expect_error(get("/v1/completions"), 405);
  expect_error(post("/v1/completions", "{"), 400);
  expect_error(complete({{"prompt", "a"}, {"model", "other"}}), 404);
  expect_error(complete({{"prompt", std::vector<int>(64, 9)}}), 400);
  expect_error(complete({{"prompt", "a"}, {"max_tokens", 4097}}), 400);
  expect_error(complete({{"prompt", std::string(3000, 'a')}}), 413);
  expect_error(post("/tokenize", "{}"), 400);
  EXPECT_EQ(complete({{"prompt", "a"}, {"max_tokens", 1}}).status, 200);  // and goes on
}

TEST(Loopback, IsAnAddressOrLocalhost) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"}) EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"127.example.org", "0.0.0.0", "192.168.0.1", "localhost.example.org", "", "::"})
    EXPECT_FALSE(is_loopback(host)) << host;
}

TEST_F(ServerTest, StoppedBeforeRunItReturnsAtOnce) {
  server_.emplace(model_, tokenizer_, options_);
  server_->stop();
  server_->run([] {}, [] { return false; });
}

TEST_F(ServerTest, NoMoreConnectionsIsAnError) {
  server_.emplace(model_, tokenizer_, options_);
  std::promise<void> ready;
  std::thread thread([&] {
    expect_error(ExitCode::unavailable, {"no more connections"},
                 [&] { server_->run([&] { ready.set_value(); }, [] { return false; }); });
  });
  ready.get_future().wait();
  for (int fd = 3; fd < 1024; ++fd) {
    int listens = 0;
    socklen_t size = sizeof listens;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0) ::shutdown(fd, SHUT_RDWR);
  }
  thread.join();
}

TEST_F(ServerTest, AModelThatFailsIsAServerError) {
  model_.before_token = [] { throw Error(ExitCode::non_finite, "the logits are NaN"); };
  start();
  const Reply reply = complete({{"prompt", "a"}});
  EXPECT_EQ(reply.status, 500);
  EXPECT_EQ(reply.body["error"]["message"], "the logits are NaN");
  EXPECT_EQ(reply.body["error"]["type"], "server_error");
}

TEST_F(ServerTest, RequestsAlternateTokenByToken) {
  std::atomic<int> drawn = 0;
  std::promise<void> begun;
  model_.script.assign(2000, 9);
  model_.before_token = [&] {
    if (++drawn == 1) begun.set_value();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  start();
  std::thread long_one([&] { EXPECT_EQ(complete({{"prompt", "a"}, {"max_tokens", 1500}}).status, 200); });
  begun.get_future().wait();
  EXPECT_EQ(complete({{"prompt", "a"}, {"max_tokens", 2}}).status, 200);
  EXPECT_LT(drawn, 1502) << "the short one waited for the whole long one";
  long_one.join();
}

TEST_F(ServerTest, TooManyConcurrentRequestsGetA503) {
  options_.max_requests = 1;
  std::promise<void> begun, go_on;
  bool first = true;
  model_.before_token = [&] {
    if (!std::exchange(first, false)) return;
    begun.set_value();
    go_on.get_future().wait();
  };
  start();
  std::thread busy([&] { EXPECT_EQ(complete({{"prompt", "a"}}).status, 200); });
  begun.get_future().wait();
  const auto refused = client().Post("/v1/completions", R"({"prompt":"a"})", "application/json");
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, 503);
  EXPECT_EQ(refused->get_header_value("Retry-After"), "1");
  EXPECT_EQ(complete({{"prompt", 5}}).status, 400) << "what is wrong will be wrong later, too";
  EXPECT_EQ(get("/health").status, 200);
  go_on.set_value();
  busy.join();
  EXPECT_EQ(complete({{"prompt", "a"}}).status, 200);
}

TEST_F(ServerTest, AClientThatLeavesWhileTheModelIsBusyFreesItsSlot) {
  options_.max_requests = 2;
  std::promise<void> begun, go_on;
  bool first = true;
  model_.before_token = [&] {
    if (!std::exchange(first, false)) return;
    begun.set_value();
    go_on.get_future().wait();
  };
  start();
  std::thread busy([&] { EXPECT_EQ(complete({{"prompt", "a"}}).status, 200); });
  begun.get_future().wait();
  const auto refused = [&](const char* body) {
    auto impatient = client();
    impatient.set_read_timeout(0, 200'000);
    const auto answer = impatient.Post("/v1/completions", body, "application/json");
    return answer && answer->status == 503;
  };
  for (const char* body : {R"({"prompt":"a"})", R"({"prompt":"a","stream":true})"}) {
    EXPECT_FALSE(refused(body)) << "it waits, and leaves";
    bool still = true;
    for (int tries = 0; still && tries < 100; ++tries) {
      still = refused(R"({"prompt":"a"})");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    EXPECT_FALSE(still) << body;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  go_on.set_value();
  busy.join();
}

TEST_F(ServerTest, ADisconnectedClientEndsItsText) {
  start_slowly();
  int chunks = 0;
  const httplib::Request request = [&] {
    httplib::Request made;
    made.method = "POST";
    made.path = "/v1/completions";
    made.body = R"({"prompt":"a","max_tokens":4000,"stream":true})";
    made.set_header("Content-Type", "application/json");
    made.content_receiver = [&](const char*, size_t, uint64_t, uint64_t) { return ++chunks < 3; };
    return made;
  }();
  client().send(request);
  expect_free_slot();
}

TEST_F(ServerTest, AClientThatHasGoneCostsNothingMore) {
  start_slowly();
  auto impatient = client();
  impatient.set_read_timeout(0, 30'000);
  const auto none = impatient.Post("/v1/completions", R"({"prompt":"a","max_tokens":4000})", "application/json");
  EXPECT_FALSE(none);
  expect_free_slot();
}

TEST_F(ServerTest, StopsInTheMiddleOfAText) {
  std::promise<void> begun;
  bool first = true;
  model_.script.assign(4000, 9);
  model_.before_token = [&] {
    if (std::exchange(first, false)) begun.set_value();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  start();
  Reply reply;
  std::thread cut([&] { reply = complete({{"prompt", "a"}, {"max_tokens", 4000}}); });
  begun.get_future().wait();
  finish();
  cut.join();
  EXPECT_EQ(reply.status, 503) << reply.text;
}

TEST_F(ServerTest, APortThatIsTakenIsAnError) {
  start();
  ServerOptions same = options_;
  same.port = server_->port();
  expect_error(ExitCode::unavailable, {"cannot listen on 127.0.0.1", "in use", "--port 0"},
               [&] { Server(model_, tokenizer_, same); });
}

TEST_F(ServerTest, AnAddressOfAnotherMachineIsAnError) {
  options_.host = "192.0.2.1";
  expect_error(ExitCode::unavailable, {"192.0.2.1", "Cannot assign", "--host"}, [&] { Server(model_, tokenizer_, options_); });
  options_.host = "no.such.host.invalid";
  expect_error(ExitCode::unavailable, {"no.such.host", "no address", "--host"}, [&] { Server(model_, tokenizer_, options_); });
}

}  // namespace
}  // namespace pgolf::testing
