// The original's v0 driver (MesosSchedulerDriver, out of the libmesos that is published) for frameworks of any language: callbacks are
// lines of standard output, calls are lines of standard input. A line is a name and messages in hexadecimal protobuf, "-" for none.
//
//   v0_driver MASTER FRAMEWORK_INFO      acknowledgements are the framework's to make
//
//   said: registered FrameworkID MasterInfo · reregistered MasterInfo · disconnected · offers Offer… · rescinded OfferID ·
//         update TaskStatus · message ExecutorID AgentID TEXT · lost AgentID · executor_lost ExecutorID AgentID STATUS · error TEXT · end
//   heard: launch OfferID Filters TaskInfo… · accept OfferID Filters Operation… · decline OfferID Filters · kill TaskID ·
//          acknowledge TaskStatus · reconcile TaskStatus… · message ExecutorID AgentID TEXT · revive TEXT… · suppress TEXT… ·
//          stop (ends the framework) · failover (leaves it to the next)
//
// Built against libmesos by what its symbols say; see the declarations beside the original (../../../shared/oracle/src/abi.h).
#include "abi.h"
#include <iostream>
#include <mutex>
#include <unistd.h>

namespace google { namespace protobuf {
class API MessageLite {
public:
  bool ParseFromString(const std::string&);
  bool SerializeToString(std::string*) const;
};
}}

namespace mesos {
// Only of what lies in arrays does the size matter: these are what this build's New() allocates.
#define MESSAGE(NAME, SIZE) class API NAME { public: NAME(); NAME(const NAME&); ~NAME(); alignas(8) char raw[SIZE]; }
MESSAGE(OfferID, 0x20);
MESSAGE(TaskInfo, 0xe0);
MESSAGE(Offer, 0xa0);
MESSAGE(Offer_Operation, 0x78);
MESSAGE(TaskStatus, 0x88);
MESSAGE(FrameworkInfo, 512);
MESSAGE(FrameworkID, 512);
MESSAGE(SlaveID, 512);
MESSAGE(TaskID, 512);
MESSAGE(ExecutorID, 512);
MESSAGE(Filters, 512);
class API SchedulerDriver;

class API Scheduler {
public:
  virtual ~Scheduler() {}
  virtual void registered(SchedulerDriver*, const FrameworkID&, const MasterInfo&) = 0;
  virtual void reregistered(SchedulerDriver*, const MasterInfo&) = 0;
  virtual void disconnected(SchedulerDriver*) = 0;
  virtual void resourceOffers(SchedulerDriver*, const std::vector<Offer>&) = 0;
  virtual void offerRescinded(SchedulerDriver*, const OfferID&) = 0;
  virtual void statusUpdate(SchedulerDriver*, const TaskStatus&) = 0;
  virtual void frameworkMessage(SchedulerDriver*, const ExecutorID&, const SlaveID&, const std::string&) = 0;
  virtual void slaveLost(SchedulerDriver*, const SlaveID&) = 0;
  virtual void executorLost(SchedulerDriver*, const ExecutorID&, const SlaveID&, int) = 0;
  virtual void error(SchedulerDriver*, const std::string&) = 0;
};

class API MesosSchedulerDriver {
public:
  MesosSchedulerDriver(Scheduler*, const FrameworkInfo&, const std::string&, bool);
  int start();
  int stop(bool);
  int join();
  int launchTasks(const std::vector<OfferID>&, const std::vector<TaskInfo>&, const Filters&);
  int acceptOffers(const std::vector<OfferID>&, const std::vector<Offer_Operation>&, const Filters&);
  int declineOffer(const OfferID&, const Filters&);
  int killTask(const TaskID&);
  int acknowledgeStatusUpdate(const TaskStatus&);
  int reconcileTasks(const std::vector<TaskStatus>&);
  int sendFrameworkMessage(const ExecutorID&, const SlaveID&, const std::string&);
  int reviveOffers();
  int reviveOffers(const std::vector<std::string>&);
  int suppressOffers();
  int suppressOffers(const std::vector<std::string>&);
  char raw[4096];
};
}  // namespace mesos
using namespace mesos;

static std::string hex(const std::string& bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string out;
  for (unsigned char byte : bytes) { out += digits[byte >> 4]; out += digits[byte & 15]; }
  return out.empty() ? "-" : out;
}
template <typename T> std::string hex_of(const T& message) {
  std::string bytes;
  reinterpret_cast<const google::protobuf::MessageLite*>(&message)->SerializeToString(&bytes);
  return hex(bytes);
}
static std::string bytes_in(const std::string& hex) {
  std::string out;
  if (hex == "-") return out;
  for (size_t at = 0; at + 1 < hex.size(); at += 2) out += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
  return out;
}
template <typename T> T message_in(const std::string& hex) {
  T message;
  if (!reinterpret_cast<google::protobuf::MessageLite*>(&message)->ParseFromString(bytes_in(hex))) shim::die("not a message: " + hex);
  return message;
}
static void say(const std::string& line) {
  static std::mutex lock;
  std::lock_guard<std::mutex> guard(lock);
  printf("%s\n", line.c_str());
  fflush(stdout);
}

struct Teller : Scheduler {
  void registered(SchedulerDriver*, const FrameworkID& id, const MasterInfo& master) override { say("registered " + hex_of(id) + " " + hex_of(master)); }
  void reregistered(SchedulerDriver*, const MasterInfo& master) override { say("reregistered " + hex_of(master)); }
  void disconnected(SchedulerDriver*) override { say("disconnected"); }
  void resourceOffers(SchedulerDriver*, const std::vector<Offer>& offers) override {
    std::string line = "offers";
    for (const Offer& offer : offers) line += " " + hex_of(offer);
    say(line);
  }
  void offerRescinded(SchedulerDriver*, const OfferID& id) override { say("rescinded " + hex_of(id)); }
  void statusUpdate(SchedulerDriver*, const TaskStatus& status) override { say("update " + hex_of(status)); }
  void frameworkMessage(SchedulerDriver*, const ExecutorID& executor, const SlaveID& agent, const std::string& data) override {
    say("message " + hex_of(executor) + " " + hex_of(agent) + " " + hex(data));
  }
  void slaveLost(SchedulerDriver*, const SlaveID& agent) override { say("lost " + hex_of(agent)); }
  void executorLost(SchedulerDriver*, const ExecutorID& executor, const SlaveID& agent, int status) override {
    say("executor_lost " + hex_of(executor) + " " + hex_of(agent) + " " + std::to_string(status));
  }
  void error(SchedulerDriver*, const std::string& text) override { say("error " + hex(text)); }
};

template <typename T> std::vector<T> messages(const std::vector<std::string>& words, size_t from) {
  std::vector<T> out;
  for (size_t at = from; at < words.size(); at++) out.push_back(message_in<T>(words[at]));
  return out;
}

int main(int argc, char** argv) {
  if (argc < 3) shim::die("usage: v0_driver MASTER FRAMEWORK_INFO");
  Teller teller;
  auto info = message_in<FrameworkInfo>(argv[2]);
  auto* driver = new MesosSchedulerDriver(&teller, info, argv[1], false);
  driver->start();
  bool leave = true;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream stream(line);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    if (words.empty()) continue;
    const std::string name = words[0];
    auto is = [&](const char* what, size_t least) { return name == what && words.size() > least; };
    if (name == "stop") { leave = false; break; }
    else if (name == "failover") break;
    else if (is("launch", 2)) driver->launchTasks({message_in<OfferID>(words[1])}, messages<TaskInfo>(words, 3), message_in<Filters>(words[2]));
    else if (is("accept", 2)) driver->acceptOffers({message_in<OfferID>(words[1])}, messages<Offer_Operation>(words, 3), message_in<Filters>(words[2]));
    else if (is("decline", 2)) driver->declineOffer(message_in<OfferID>(words[1]), message_in<Filters>(words[2]));
    else if (is("kill", 1)) driver->killTask(message_in<TaskID>(words[1]));
    else if (is("acknowledge", 1)) driver->acknowledgeStatusUpdate(message_in<TaskStatus>(words[1]));
    else if (name == "reconcile") driver->reconcileTasks(messages<TaskStatus>(words, 1));
    else if (is("message", 3)) driver->sendFrameworkMessage(message_in<ExecutorID>(words[1]), message_in<SlaveID>(words[2]), bytes_in(words[3]));
    else if (name == "revive" || name == "suppress") {
      std::vector<std::string> roles;
      for (size_t at = 1; at < words.size(); at++) roles.push_back(bytes_in(words[at]));
      if (name == "revive") roles.empty() ? driver->reviveOffers() : driver->reviveOffers(roles);
      else roles.empty() ? driver->suppressOffers() : driver->suppressOffers(roles);
    } else shim::die("no such call: " + line);
  }
  driver->stop(leave);
  driver->join();
  say("end");
  // libmesos' threads are still about.
  _exit(0);
}
