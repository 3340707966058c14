"""How kshot grows: workers, tasks a call, adapted models, size of the support; and what a cluster would cost."""
