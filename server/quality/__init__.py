"""Ask a server what the quality gate compares: probabilities of given texts, and answers of its own.

Only through the OpenAI-style API that vLLM speaks. Every server gets the same token ids: the first one's
/tokenize makes them (`questions`), all others must agree with it. What a server said is one JSON object
(`asking.ask`), whose fields `analysis.answers` lists; nothing is judged here.
"""
