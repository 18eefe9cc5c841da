namespace Tutti.Boot.Tests;

/// <summary>Kernel files are as hostile as guests: whatever their headers say, the answer is a loaded kernel or a BootException.</summary>
public class FuzzTests
{
    private const int Rounds = 4000;

    /// <summary>Values that break arithmetic more often than random ones do.</summary>
    private static readonly byte[] Edges = [0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_bzImage_with_mutated_headers_loads_or_is_refused(int seed) => Mutate(KernelFiles.BzImage(), seed, 0x1F0, 0x270);

    [Theory]
    [InlineData(3)]
    [InlineData(4)]
    public void An_elf_kernel_with_mutated_headers_loads_or_is_refused(int seed) => Mutate(KernelFiles.Vmlinux(), seed, 0, 0x430);

    [Fact]
    public void Random_bytes_are_refused()
    {
        using TestMemory memory = new(32);
        Random random = new(5);
        for (int i = 0; i < 500; i++)
        {
            byte[] file = new byte[random.Next(2000)];
            random.NextBytes(file);
            Assert.Throws<BootException>(() => LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = file }));
        }
    }

    private static void Mutate(byte[] original, int seed, int start, int end)
    {
        using TestMemory memory = new(32, 4);
        Random random = new(seed);
        byte[] initrd = new byte[3 << 20];
        int loaded = 0;
        int refused = 0;
        for (int round = 0; round < Rounds; round++)
        {
            byte[] file = (byte[])original.Clone();
            int changes = 1 + random.Next(6);
            for (int i = 0; i < changes; i++)
            {
                file[random.Next(start, end)] = random.Next(2) == 0 ? Edges[random.Next(Edges.Length)] : (byte)random.Next(256);
            }

            if (random.Next(20) == 0)
            {
                file = file[..random.Next(file.Length)];
            }

            try
            {
                LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = file, Initrd = initrd.AsMemory(0, random.Next(initrd.Length)), CommandLine = "console=ttyS0" });
                loaded++;
            }
            catch (BootException error)
            {
                Assert.DoesNotContain('\n', error.Message);
                refused++;
            }
        }

        // Both ways must have been taken often, or the mutations show nothing.
        Assert.True(loaded > Rounds / 20, $"{loaded} loaded");
        Assert.True(refused > Rounds / 20, $"{refused} refused");
    }
}
