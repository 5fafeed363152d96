//! Prints the description of the API: `cargo run -p certctl-http --example openapi`.

fn main() {
    println!("{:#}", certctl_http::openapi_document());
}
