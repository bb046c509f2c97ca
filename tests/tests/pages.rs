//! The two web pages in a real browser, against a real cluster.

use end_to_end::browser::{self, Browser};
use end_to_end::cluster::Cluster;
use end_to_end::{http, need};

/// The row of a table that begins with a link of this text.
fn row(id: &str) -> String {
    format!("//tr[.//a[normalize-space()='{id}']]")
}

#[test]
fn an_app_is_created_scaled_and_destroyed_on_marathons_page() {
    need!(
        browser::is_installed(),
        "there is no chromium and chromedriver (Debian: chromium-driver)"
    );
    let cluster = Cluster::start();
    let browser = Browser::start();
    browser.open(&cluster.marathon_url("/"));
    browser.wait_for_text("No Applications Created");

    // What Marathon refuses is told in its words, and the form keeps what was typed.
    browser.click("//button[@name='create']");
    browser.fill("//dialog//input[@name='id']", "/Not_An_Id");
    browser.fill("//dialog//textarea[@name='cmd']", "sleep 1000");
    browser.click("//dialog//button[@type='submit']");
    browser.wait_for_text("must fully match regular expression");

    browser.fill("//dialog//input[@name='id']", "/made-by-form");
    browser.click("//dialog//button[@type='submit']");
    let _ids = cluster.wait_for_tasks("/made-by-form", 1);
    let running =
        format!("{}[contains(., '1 of 1') and contains(., 'Running')]", row("/made-by-form"));
    let _row = browser.find(&running);

    browser.click(&format!("{}//a", row("/made-by-form")));
    browser.click("//button[@name='scale']");
    browser.answer(Some("2"));
    let ids = cluster.wait_for_tasks("/made-by-form", 2);
    for id in ids {
        browser.wait_for_text(&id);
    }
    browser.wait_for_text("2 of 2");

    browser.click("//button[normalize-space()='Destroy']");
    browser.answer(None);
    browser.wait_for_text("No Applications Created");
    let apps = http::get_json(&cluster.marathon_url("/v2/apps")).expect("Marathon answers");
    assert_eq!(apps["apps"].as_array().map(Vec::len), Some(0), "{apps}");
}

#[test]
fn an_app_is_created_from_json() {
    need!(
        browser::is_installed(),
        "there is no chromium and chromedriver (Debian: chromium-driver)"
    );
    let cluster = Cluster::start();
    let browser = Browser::start();
    browser.open(&cluster.marathon_url("/ui/"));
    browser.click("//button[@name='create']");
    browser.click("//dialog//input[@name='json']");
    browser.fill("//dialog//textarea[@name='text']", "{\"id\": ");
    browser.click("//dialog//button[@type='submit']");
    browser.wait_for_text("Not created.");
    let app = r#"{"id": "/made-by-json", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32}"#;
    browser.fill("//dialog//textarea[@name='text']", app);
    browser.click("//dialog//button[@type='submit']");
    let running = format!("{}[contains(., '1 of 1')]", row("/made-by-json"));
    let _row = browser.find(&running);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_masters_page_shows_agents_frameworks_and_tasks_with_their_files() {
    need!(
        browser::is_installed(),
        "there is no chromium and chromedriver (Debian: chromium-driver)"
    );
    let cluster = Cluster::start();
    cluster.run_app("/talker", "echo said-by-the-task; exec sleep 1000", 1);
    let ids = cluster.wait_for_tasks("/talker", 1);
    let browser = Browser::start();
    browser.open(&cluster.master_url("/"));
    browser.wait_for_text(&ids[0]);
    browser.wait_for_text("marathon");
    browser.click("//a[normalize-space()='Sandbox']");
    browser.wait_for_text("stdout");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
