"""Tables, contact sheets and the HTML report."""
