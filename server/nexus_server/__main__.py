from nexus_server.cli import main

main()
