//! Google's Gemini API and Vertex AI: contents, embeddings, predictions, interactions.

pub mod answer;
pub mod ending;
pub mod interactions;
pub mod notation;
pub mod reading;
pub mod request;

#[cfg(test)]
mod tests;
